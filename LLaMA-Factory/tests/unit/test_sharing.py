"""The fast path against the plain one: loss and every gradient, over random batches, models, stages and options."""

import logging
from types import MethodType

import pytest
import torch
import transformers
from accelerate import Accelerator
from dialogues import pair, segment_pairs, sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from test_loss import TOKENIZER, encode, trainer_for

from llamafactory_sdpo.data.encoding import IGNORE_INDEX
from llamafactory_sdpo.data.pairing import Rules
from llamafactory_sdpo.step import sharing
from llamafactory_sdpo.step.logps import HALF_TOLERANCE, LogpComputer, batch_inputs
from llamafactory_sdpo.step.loss import scored_tokens
from llamafactory_sdpo.step.sharing import PairLengths, share


VOCABULARY = 40
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}
KINDS = ("llama", "mistral", "qwen2", "qwen3")
SLIDING = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}


def model_of(kind: str, seed: int = 1, dtype: torch.dtype = torch.float64, **options: object):
    """A tiny model of a family; its weights are large enough that the context changes what it says."""
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def without_casts(model):
    """Take the cast to float32 out of the norms; the one of the rotary angles is the same for the same position."""

    def wide(self, states):
        epsilon = self.variance_epsilon
        return self.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(wide, module)
    return model


@st.composite
def batches(draw: st.DrawFn, side: str = "right"):
    """Rows of random tokens: pairs that share any number of them, scored anywhere, also where they are shared."""
    pairs = draw(st.integers(1, 4))
    rows = []
    tokens = st.integers(1, VOCABULARY - 1)
    for _ in range(pairs):
        history = draw(st.lists(tokens, min_size=1, max_size=30))
        rows.append([history + draw(st.lists(tokens, min_size=1, max_size=12)) for _ in range(2)])
    rows = [row[index] for index in (0, 1) for row in rows]
    length = max(map(len, rows))
    batch = {
        "input_ids": torch.zeros(2 * pairs, length, dtype=torch.long),
        "attention_mask": torch.zeros(2 * pairs, length, dtype=torch.long),
        "labels": torch.full((2 * pairs, length), IGNORE_INDEX),
        "turns": torch.zeros(2 * pairs, length, dtype=torch.long),
        "turn_weights": torch.zeros(2 * pairs, 1, dtype=torch.float64),
    }
    for number, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids = torch.tensor(row)
        is_scored = torch.tensor(draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
        is_scored[0], is_scored[draw(st.integers(1, len(row) - 1))] = False, True
        batch["input_ids"][number, at] = ids
        batch["attention_mask"][number, at] = 1
        batch["labels"][number, at] = ids.masked_fill(~is_scored, IGNORE_INDEX)
        batch["turn_weights"][number] = draw(st.floats(0.1, 1))
    return batch


def scores(model, batch, **options):
    """The log-probabilities of the scored tokens, by the way that the options ask for."""
    scored = scored_tokens(batch["labels"], batch["turns"])
    computer = LogpComputer(Accelerator(cpu=True), **{"shared_history": True, "scored_logits_only": True, **options})
    found = computer(model, batch_inputs(batch), scored)
    assert computer._may_share == options.get("shared_history", True)
    return found, scored


def expect_same(model, batch, tolerance: float, **options) -> None:
    """One way and the plain one with all logits: every log-probability, and every gradient of a loss on them."""
    results = []
    for way in (options, {"shared_history": False, "scored_logits_only": False}):
        (logps, means), scored = scores(model, batch, **way)
        weights = batch["turn_weights"]
        loss = -torch.nn.functional.logsigmoid((scored.by_turn(logps, weights) * weights) / 10).sum()
        model.zero_grad()
        loss.backward()
        results.append([logps, means, loss, *(p.grad.clone() for p in model.parameters() if p.requires_grad)])
        release(model)
    largest = max(gradient.abs().max().item() for gradient in results[1][3:])
    for ours, theirs in zip(*results, strict=True):
        # A gradient that is 0 but for rounding has no scale of its own.
        scale = max(theirs.abs().max().item(), 1e-4 * largest)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * scale)


def release(model) -> None:
    """Leave the attention as it was; the trainer does so after a step."""
    base = model.get_base_model() if isinstance(model, transformers.PreTrainedModel) is False else model
    base.config._attn_implementation = "sdpa"


EXACT_TALKERS = {
    seed: without_casts(model_of("llama", seed, vocab_size=len(TOKENIZER), max_position_embeddings=4096))
    for seed in (1, 2)
}
EXACT = {kind: without_casts(model_of(kind)) for kind in KINDS}
DOUBLE = {kind: model_of(kind) for kind in KINDS}
SINGLE = {kind: model_of(kind, dtype=torch.float32) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(batch=batches())
def test_the_fast_path_is_exact(kind, batch):
    """In float64 throughout: 1e-10."""
    expect_same(EXACT[kind], batch, 1e-10)


@settings(deadline=None, max_examples=30)
@given(
    batch=st.one_of(batches(), batches(side="left")),
    model=st.sampled_from([*DOUBLE.values(), *SINGLE.values()]),
    options=st.sampled_from([{}, {"shared_history": False}, {"scored_logits_only": False}]),
)
def test_every_switch_in_models_as_they_come(batch, model, options):
    """Their norms and angles are in float32 also when they are not: 1e-5."""
    expect_same(model, batch, 1e-5, **options)


@pytest.mark.parametrize("reentrant", [True, False])
@settings(deadline=None, max_examples=8)
@given(batch=batches())
def test_gradient_checkpointing_and_lora(reentrant, batch):
    """The backward pass runs the layers again, under adapters; both sides of the comparison do so."""
    model = without_casts(model_of("llama"))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).double()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    adapted.train()
    expect_same(adapted, batch, 1e-10)


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
@settings(deadline=None, max_examples=6)
@given(data=st.data(), loss=st.sampled_from(["sigmoid", "hinge", "ipo", "orpo", "simpo"]))
def test_the_loss_and_what_is_logged(stage, data, loss):
    """Through the trainer, from dialogues; reference included, in float64 throughout: 1e-9."""
    options = {"pref_loss": loss, "pref_ftx": data.draw(st.sampled_from([0.0, 0.3]))}
    if stage == "sdpo":
        sides = data.draw(st.lists(segment_pairs(), min_size=1, max_size=2))
    else:
        sides = [([], *sides) for sides in data.draw(st.lists(sessions(), min_size=1, max_size=2))]
    rows = encode([record for parts in sides for record in pair(*parts)], Rules(stage))
    policy, reference = (EXACT_TALKERS[seed] for seed in (1, 2))
    results = []
    for switches in ({}, {"shared_history": False, "scored_logits_only": False}):
        trainer = trainer_for(stage, policy=policy, reference=reference, **options, **switches)
        value, metrics = trainer.get_batch_loss_metrics(policy, trainer.data_collator(rows))
        results.append((value, metrics, torch.autograd.grad(value, list(policy.parameters()))))
    (ours, our_metrics, our_gradients), (theirs, their_metrics, their_gradients) = results
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9, abs=1e-9)
    assert our_metrics == pytest.approx(their_metrics, rel=1e-9, abs=1e-8)
    largest = max(gradient.abs().max().item() for gradient in their_gradients)
    for our, their in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-9 * largest)


# ---- the layout ------------------------------------------------------------------------------------------------------


def batch_of(rows: list[list[int]], scored: list[list[int]]) -> dict[str, torch.Tensor]:
    """Right-padded rows of tokens, and the positions that are scored in each."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.full_like(ids, IGNORE_INDEX)}
    for row, positions in enumerate(scored):
        batch["labels"][row, positions] = ids[row, positions]
    return {**batch, "turns": torch.zeros_like(ids), "turn_weights": torch.ones(len(rows), 1, dtype=torch.float64)}


def test_the_layout_by_hand():
    """Two pairs; the first shares 1 2 3, its chosen side ends before what is not scored; the second shares 7."""
    batch = batch_of([[1, 2, 3, 4, 5, 6], [7, 8], [1, 2, 3, 9, 9], [7, 9, 9]], [[3, 4], [1], [3, 4], [2]])
    forward = share(batch, scored_tokens(batch["labels"], batch["turns"]))
    assert forward.inputs["shared_history"] == (PairLengths(3, 1, 1), PairLengths(1, 0, 1))
    assert forward.inputs["input_ids"].tolist() == [[1, 2, 3, 4, 9, 7, 9]]
    assert forward.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 3, 0, 1]]
    # Row by row: 4 and 5 after 3 and 4; 8 after 7; 9 and 9 after 3 and 9; 9 after 9.
    assert forward.source.tolist() == [2, 3, 5, 2, 4, 6]


def test_logits_are_computed_where_they_are_needed(monkeypatch):
    """The first token after a shared history is predicted once, for both sides; a plain batch keeps every row's."""
    seen = []
    model = SINGLE["llama"]
    hook = model.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    batch = batch_of([[1, 2, 3, 4, 5], [1, 2, 3, 9, 9]], [[3, 4], [3, 4]])
    for options in ({}, {"shared_history": False}, {"shared_history": False, "scored_logits_only": False}):
        scores(model, batch, **options)
    hook.remove()
    # The first way is tried beside the plain one before it is used.
    assert seen == [(2, 2, VOCABULARY), (1, 3, VOCABULARY), (1, 3, VOCABULARY), (2, 2, VOCABULARY), (2, 5, VOCABULARY)]


# ---- falling back ----------------------------------------------------------------------------------------------------

SHORT = batch_of([[1, 2, 3, 4], [1, 2, 5, 6]], [[2, 3], [2, 3]])
LONG = batch_of([[*range(1, 20), 21, 22], [*range(1, 20), 31, 32]], [[19, 20], [19, 20]])


def first_batch(model, caplog, **options) -> tuple[bool, str]:
    """Whether the first batch is shared in the end, and what is logged of it."""
    scored = scored_tokens(LONG["labels"], LONG["turns"])
    computer = LogpComputer(Accelerator(cpu=True), shared_history=True, scored_logits_only=True, **options)
    with caplog.at_level(logging.WARNING):
        (logps, _) = computer(model, batch_inputs(LONG), scored)
    (plain, _), _ = scores(model, LONG, shared_history=False)
    torch.testing.assert_close(logps, plain, rtol=1e-5, atol=1e-5)
    return computer._may_share, caplog.text


def test_a_window_shorter_than_a_dialogue_is_not_shared(caplog):
    """The window is of 8 tokens: dialogues of 21 are plain and prove nothing, shorter ones are tried and shared."""
    model = model_of("qwen2", **SLIDING)
    assert first_batch(model, caplog) == (True, "")
    computer = LogpComputer(Accelerator(cpu=True), shared_history=True, scored_logits_only=True)
    seen = []
    hook = model.register_forward_pre_hook(lambda *args: seen.append("shared_history" in args[2]), with_kwargs=True)
    for batch in (LONG, SHORT, LONG, SHORT):
        computer(model, batch_inputs(batch), scored_tokens(batch["labels"], batch["turns"]))
    hook.remove()
    assert seen == [False, False, True, True, False, True]
    expect_same(model, SHORT, 1e-5)
    assert sharing.window(model) == 8 and sharing.window(model_of("qwen2")) is None
    assert sharing.window(model_of("mistral", sliding_window=16)) == 16


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        (
            "bloom",
            {"n_layer": 1, "n_head": 4, "attn_implementation": "eager"},
            "transformers has no way to replace its attention",
        ),
        (
            "qwen3_next",
            {"num_experts": 4, "num_experts_per_tok": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
            "it has layers of linear_attention",
        ),
        (
            "gemma2",
            {"attn_logit_softcapping": 50.0, "attn_implementation": "eager"},
            "its attention has a soft cap",
        ),
        (
            "gpt_oss",
            {"num_local_experts": 2, "num_experts_per_tok": 1, "attn_implementation": "eager"},
            "the model refuses: its attention has sinks",
        ),
    ],
)
def test_models_that_cannot_share(kind, options, reason, caplog):
    model = model_of(kind, dtype=torch.float32, **options)
    shared, said = first_batch(model, caplog)
    assert not shared and f"of its own: {reason}" in said


def test_multimodal_models_are_not_shared():
    class Outer:
        config = transformers.LlavaConfig()

    assert sharing.why_not(Outer()) == "it is multimodal"


def test_a_model_that_comes_to_another_result_is_not_shared(caplog, monkeypatch):
    """As if an attention took its history for another one: found out by the first batch, and said."""
    real = sharing.scaled_dot_product_attention
    monkeypatch.setattr(
        sharing,
        "scaled_dot_product_attention",
        lambda query, key, value, **rest: real(query, key, value.flip(2), **rest),
    )
    shared, said = first_batch(model_of("llama"), caplog)
    assert not shared and "log-probabilities of a batch differ by" in said and "each side is encoded" in said


def test_a_model_that_refuses_is_not_shared(caplog):
    model = model_of("llama")
    forward = model.model.forward

    def strict(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache, return_dict=True):
        return forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)

    model.model.forward = strict
    shared, said = first_batch(model, caplog)
    assert not shared and "the model refuses" in said


def test_dropout_in_the_attention_does_not_spoil_the_comparison(caplog):
    """The trial is made without it; training then has it, as on the plain path."""
    model = model_of("llama", attention_dropout=0.5).train()
    scored = scored_tokens(LONG["labels"], LONG["turns"])
    computer = LogpComputer(Accelerator(cpu=True), shared_history=True, scored_logits_only=True)
    one, other = (computer(model, batch_inputs(LONG), scored).logps for _ in range(2))
    assert computer._may_share and model.training and not caplog.text
    assert not torch.allclose(one, other)


def test_in_16_bits_the_ways_agree_within_rounding():
    """bf16: the mean difference of a token's log-probability is under the limit that the trial sets."""
    model = model_of("llama", dtype=torch.bfloat16)
    found = [scores(model, LONG, shared_history=shared)[0].logps for shared in (True, False)]
    assert (found[0] - found[1]).abs().mean() < HALF_TOLERANCE
