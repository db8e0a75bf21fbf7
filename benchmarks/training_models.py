"""The pairs, models and tokenizer of training.py: the same in every environment, made from seeds.

Needs PyTorch and transformers alone; a peer's environment has other versions of them, so weights are drawn here.
"""

from types import SimpleNamespace
from typing import Any

import torch


POLICY_SEED, REFERENCE_SEED = 1, 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32

Row = dict[str, Any]


def make_rows(sizes: SimpleNamespace, count: int) -> list[Row]:
    """Encode pairs of random tokens: a history, and on either side a segment whose even parts are agent turns."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for number in range(count):
        history, *sides = (
            torch.randint(2, sizes.vocabulary, (length,), generator=draw).tolist()
            for length in (sizes.history, sizes.segment, sizes.segment)
        )
        row: Row = {"first_turn": 0, "key": number, "length": sizes.history + 2 * sizes.segment}
        parts = 2 * sizes.turns - 1
        bounds = [sizes.segment * part // parts for part in range(parts + 1)]
        is_agent = [part % 2 == 0 for part in range(parts) for _ in range(bounds[part], bounds[part + 1])]
        for name, side in zip(("chosen", "rejected"), sides, strict=True):
            labels = [token if mine else -100 for token, mine in zip(side, is_agent, strict=True)]
            row[f"{name}_input_ids"] = history + side
            row[f"{name}_labels"] = [-100] * len(history) + labels
            lengths = [b - a for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
            row |= {f"{name}_turn_lengths": lengths, f"{name}_turn_weights": [1.0] * len(lengths)}
        rows.append(row)
    return rows


def make_model(sizes: SimpleNamespace, seed: int) -> Any:
    """A Llama whose weights depend on the seed alone, as the sizes say with an adapter on every linear layer of it.

    Weights get smaller with the width, so that logits of any size spread alike and losses are no rounding errors.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=sizes.history + sizes.segment + 8,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    with torch.device(DEVICE):
        model = LlamaForCausalLM(config).to(DTYPE)
    if sizes.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if sizes.lora:
        from peft import LoraConfig, get_peft_model

        tuning = LoraConfig(r=sizes.lora, lora_alpha=2 * sizes.lora, target_modules="all-linear")
        model = get_peft_model(model, tuning, autocast_adapter_dtype=False)
    draw = torch.Generator(DEVICE).manual_seed(seed)
    for _, weight in sorted(model.named_parameters()):
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.8 / sizes.hidden**0.5, generator=draw)
    return model


def operations(model: Any, sizes: SimpleNamespace) -> int:
    """Operations of a step that cannot be saved: forward and backward of distinct tokens, logits of scored ones.

    Two a weight and token for the forward, as many for the gradients of what a layer is given, and of its weights
    if they are trained. Attention's own products and what checkpointing repeats are not counted, as is the custom.
    """
    chosen = make_rows(sizes, 1)[0]["chosen_labels"]
    scored = 2 * sum(label != -100 for label in chosen) * sizes.pairs
    tokens = sizes.pairs * (sizes.history + 2 * sizes.segment)
    seen = {"lm_head": scored, "embed_tokens": 0}
    return sum(
        (6 if weight.requires_grad else 4)
        * weight.numel()
        * next((count for part, count in seen.items() if part in name), tokens)
        for name, weight in model.named_parameters()
    )


def make_tokenizer() -> Any:
    """A tokenizer that can do no more than pad."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
