"""What only a GPU can show: `SDPO_TEST_GPU=0 bash test.sh -k cuda` on a machine that has one; left out elsewhere."""

import os

import pytest
import small
import torch
import transformers
import yaml
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel

from llamafactory_sdpo.data.encoding import IGNORE_INDEX
from llamafactory_sdpo.launcher import train
from llamafactory_sdpo.step.logps import LogpComputer, batch_inputs
from llamafactory_sdpo.step.loss import scored_tokens, token_logps
from llamafactory_sdpo.step.sharing import PairLengths, shared_history_attention


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or SDPO_TEST_GPU does not name one")

VOCABULARY = 2000
PAIRS = [(700, 130, 90), (300, 1, 220), (1, 60, 60), (513, 64, 257)]
"""Lengths of history, chosen and rejected side."""

KINDS = ("llama", "mistral", "qwen2", "qwen3")


def model_of(kind: str, dtype: torch.dtype, layers: int = 4):
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=2048, pad_token_id=0,
        initializer_range=0.05, attn_implementation="sdpa", sliding_window=None,
    )  # fmt: skip
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(config).to("cuda", dtype).train()


def batch_of(pairs: list[tuple[int, int, int]]) -> dict[str, torch.Tensor]:
    """Pairs of random tokens, padded on the right; both sides are scored."""
    draw = torch.Generator().manual_seed(2)
    random = lambda length: torch.randint(1, VOCABULARY, (length,), generator=draw)  # noqa: E731
    sides: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    labels: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for history, *lengths in pairs:
        shared = random(history)
        for side, length in enumerate(lengths):
            own = random(length)
            sides[side].append(torch.cat([shared, own]))
            labels[side].append(torch.cat([torch.full_like(shared, IGNORE_INDEX), own]))
    padded = lambda rows, value: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)  # noqa: E731
    ids, marks = padded(sides[0] + sides[1], 0), padded(labels[0] + labels[1], IGNORE_INDEX)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": marks, "turns": torch.zeros_like(ids)}
    return {name: value.cuda() for name, value in batch.items()}


def loss_and_gradients(model, batch: dict[str, torch.Tensor], is_fast: bool) -> list[torch.Tensor]:
    """The loss, every scored token's log-probability, and every gradient."""
    scored = scored_tokens(batch["labels"], batch["turns"])
    computer = LogpComputer(Accelerator(), is_fast, is_fast)
    logps = computer(model, batch_inputs(batch), scored).logps
    assert computer._may_share == is_fast
    one_turn = torch.zeros(len(batch["labels"]), 1, dtype=torch.float64, device="cuda")
    chosen, rejected = scored.by_turn(logps, one_turn)[:, 0].chunk(2)
    loss = -torch.nn.functional.logsigmoid(0.01 * (chosen - rejected)).mean()
    model.zero_grad()
    loss.backward()
    computer.release()
    return [loss.detach(), logps.detach(), *(weight.grad.clone() for weight in model.parameters())]


def distance(found: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The largest relative distance of any of them."""
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(found, right, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_float32_is_the_same_both_ways_on_cuda(kind, checkpointing):
    model, batch = model_of(kind, torch.float32), batch_of(PAIRS)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ways = [loss_and_gradients(model, batch, is_fast) for is_fast in (True, False)]
    assert distance(*ways) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_16_bits_lose_no_more_the_fast_way_on_cuda(kind):
    """Against the plain way in float64, the fast way in bf16 is about as far off as the plain way in bf16."""
    batch = batch_of(PAIRS)
    right = loss_and_gradients(model_of(kind, torch.float64), batch, is_fast=False)
    fast, plain = (
        distance(loss_and_gradients(model_of(kind, torch.bfloat16), batch, is_fast), right)
        for is_fast in (True, False)
    )
    print(f"{kind}: bf16 is {fast:.2%} off the fast way, {plain:.2%} the plain way")
    assert fast < 1.5 * plain


def test_the_flash_kernel_can_do_all_attention_on_cuda():
    """In 16 bits no mask is built: PyTorch's flash kernel, which takes none, does every part, key heads not repeated."""
    layout = tuple(PairLengths(*lengths) for lengths in PAIRS)
    states = [
        torch.randn(1, heads, sum(map(sum, layout)), 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for heads in (8, 2, 2)
    ]
    results = []
    for kernels in ([SDPBackend.FLASH_ATTENTION], [SDPBackend.MATH]):
        with sdpa_kernel(kernels):
            out, _ = shared_history_attention(torch.nn.Module(), *states, None, shared_history=layout)
            results.append([out.detach(), *torch.autograd.grad(out.square().sum(), states)])
    assert distance(*results) < 1e-2


def test_log_probabilities_in_chunks_on_cuda():
    logits = torch.randn(300, 50_000, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    source = torch.randint(0, 300, (500,), device="cuda")
    targets = torch.randint(0, 50_000, (500,), device="cuda")
    logps = token_logps(logits, source, targets)
    right = logits.float().log_softmax(-1)[source, targets]
    assert torch.allclose(logps, right, rtol=1e-5)
    gradients = [torch.autograd.grad(values.sum(), logits)[0].float() for values in (logps, right)]
    assert distance(gradients[:1], gradients[1:]) < 5e-3


@pytest.mark.parametrize(
    "options", [{}, {"finetuning_type": "lora"}, {"pure_bf16": True}], ids=["full", "lora", "pure"]
)
def test_training_is_the_same_both_ways_on_cuda(tmp_path, monkeypatch, options):
    """The command, in bf16, with the host's checkpointing; the first loss is ln 2, and the others are close."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPROC_PER_NODE", "1")
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    off = {"shared_history": False, "scored_logits_only": False, "reference_once": False}
    for name, more in (("fast", {}), ("plain", off)):
        precision = {} if "pure_bf16" in options else {"bf16": True}
        config = small.config(tmp_path, **options, **precision, **more, output_dir=name, cache_dir="cache")
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        assert train([f"{name}.yaml"]) == 0
    fast, plain = small.losses("fast"), small.losses("plain")
    assert fast[0] == pytest.approx(0.6931, abs=2e-2) and fast == pytest.approx(plain, abs=3e-2)
    assert os.listdir("cache/sdpo-reference")
