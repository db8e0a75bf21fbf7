"""The fast path: the history that both sides of a pair share is encoded once.

A batch of B pairs becomes one row without padding. A pair's history is every token that its sides have in common from
the left, so it ends where they first differ, also inside a turn; what follows the last scored token is left out:

    row        | history 1       | chosen 1 | rejected 1 | history 2    | chosen 2 | rejected 2 | ...
    position   | 0 1 ... h-1     | h h+1 ...| h h+1 ...  | 0 1 ... g-1  | g g+1 ...| g g+1 ...  |
    looks at   | history 1,      | history 1| history 1  | history 2,   | history 2| history 2  |
               | causally        | and the side itself,  | causally     | and the side itself,  |
               |                 | causally              |              | causally              |

Every token attends to exactly what it does in a row of its own, so a full-attention decoder computes the same for it.
The row costs the distinct tokens: no dense mask is built, a pair takes two calls of PyTorch's SDPA in every layer.
"""

import inspect
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from .loss import ScoredTokens


ATTENTION = "sdpo_shared_history"
"""The attention's name in transformers, which has no mask for it and so builds none."""

FULL_ATTENTION, SLIDING_ATTENTION = "full_attention", "sliding_attention"


class PairLengths(NamedTuple):
    """The numbers of tokens of one pair in the row."""

    history: int
    chosen: int
    rejected: int


class Forward(NamedTuple):
    """The call of a model for the logits of scored tokens.

    Attributes:
        inputs: what the model is called with.
        source: (N,) which of its logits, all rows after one another, predicts each scored token.
    """

    inputs: dict[str, Any]
    source: Tensor


def share(batch: dict[str, Tensor], scored: ScoredTokens) -> Forward:
    """Return the pairs of a batch laid out as above.

    Args:
        batch: `input_ids` and `attention_mask` (2B, T), all chosen rows first, padded on either side.
        scored: the scored tokens of these rows.
    """
    ids, is_token = batch["input_ids"].cpu(), batch["attention_mask"].cpu().bool()
    rows, positions = scored.rows.cpu(), scored.positions.cpu()
    begins = is_token.int().argmax(dim=1)
    ends = begins.scatter_reduce(0, rows, positions + 1, "amax")
    tokens = [row[begin:end] for row, begin, end in zip(ids, begins.tolist(), ends.tolist(), strict=True)]
    pairs = len(tokens) // 2
    layout, pieces = [], []
    for chosen, rejected in zip(tokens[:pairs], tokens[pairs:], strict=True):
        history = shared_prefix(chosen, rejected)
        pieces += [chosen[:history], chosen[history:], rejected[history:]]
        layout.append(PairLengths(*map(len, pieces[-3:])))
    lengths = torch.tensor(layout)
    starts = (lengths.flatten().cumsum(0) - lengths.flatten()).view(-1, 3)
    histories = lengths[:, 0]
    # Where position 0 stands in the row, seen from a history, from a chosen and from a rejected side.
    zeros = starts - torch.stack([torch.zeros_like(histories), histories, histories], dim=1)
    position_ids = torch.arange(int(lengths.sum())) - zeros.flatten().repeat_interleave(lengths.flatten())
    in_dialogue = positions - begins[rows]
    is_shared = in_dialogue < histories.repeat(2)[rows]
    source = in_dialogue + torch.where(is_shared, zeros[:, 0].repeat(2)[rows], zeros[:, 1:].T.flatten()[rows])
    device = batch["input_ids"].device
    inputs = {
        "input_ids": torch.cat(pieces)[None].to(device),
        "position_ids": position_ids[None].to(device),
        "shared_history": tuple(layout),
    }
    return Forward(inputs, source.to(device))


def shared_prefix(one: Tensor, other: Tensor) -> int:
    """Return how many tokens two dialogues have in common from the left."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.int().argmax()) if differs.any() else length


def shared_history_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared_history: tuple[PairLengths, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the attention of the layout above.

    Dropout, which the host leaves on in the attention of a model whose config asks for it, then falls on a history
    once instead of once a side; with the plain path the two sides see different noise.

    Args:
        module: the attention layer, not read.
        query: (1, heads, T, D).
        key: (1, key heads, T, D), a divisor of the heads.
        value: (1, key heads, T, D).
        attention_mask: None, since the layout stands in its place.
        shared_history: the layout, which `share` put into the model's inputs.
        scaling: of the scores.
        dropout: share of attention weights to drop.
        s_aux: the sinks of a model that has some.
        kwargs: what other kinds of attention read.

    Returns:
        (1, T, heads, D), as transformers expects it, and no weights.

    Raises:
        NotImplementedError: if there are sinks.
    """
    if s_aux is not None:
        raise NotImplementedError("its attention has sinks")
    # Under autocast the rotated queries and keys come in float32, and a bias of its own kind is not cast for.
    query, key = query.to(value.dtype), key.to(value.dtype)
    # A history and its chosen side are one causal dialogue as they stand; a rejected side is put after its history.
    # Split, not sliced: the gradient of n slices is a sum of n whole rows.
    lengths = [length for history, chosen, rejected in shared_history for length in (history + chosen, rejected)]
    queries, keys, values = (states.split(lengths, dim=2) for states in (query, key, value))
    enable_gqa = query.shape[1] != key.shape[1]
    attend = partial(scaled_dot_product_attention, dropout_p=dropout, scale=scaling, enable_gqa=enable_gqa)
    outputs = []
    for number, (history, _, rejected) in enumerate(shared_history):
        first, second = 2 * number, 2 * number + 1
        outputs.append(attend(queries[first], keys[first], values[first], is_causal=True))
        if rejected:
            k, v = (torch.cat([both[first][:, :, :history], both[second]], dim=2) for both in (keys, values))
            # Its queries stand at the end of what they look at, so causal is meant from the lower right corner.
            outputs.append(attend(queries[second], k, v, attn_mask=causal_lower_right(rejected, history + rejected)))
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1), None


AttentionInterface.register(ATTENTION, shared_history_attention)


def why_not(model: PreTrainedModel) -> str | None:
    """Return why a model's histories cannot be shared; None if no obstacle is known before the trial."""
    config = model.config
    if config.get_text_config() is not config:
        return "it is multimodal"
    other = set(getattr(config, "layer_types", None) or ()) - {FULL_ATTENTION, SLIDING_ATTENTION}
    if other:
        return f"it has layers of {min(other)}"
    # In 16 bits the cap changes less than the trial allows for; PyTorch's own attention, as here, leaves it out.
    if getattr(config, "attn_logit_softcapping", None) and config._attn_implementation != "sdpa":
        return "its attention has a soft cap"
    if not getattr(model, "_supports_attention_backend", False):
        return "transformers has no way to replace its attention"
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        return "it takes no position_ids"
    return None


def window(model: PreTrainedModel) -> int | None:
    """Return the length of the longest dialogue whose tokens all see each other; None if there is no limit."""
    kinds = getattr(model.config, "layer_types", None) or [SLIDING_ATTENTION]
    return getattr(model.config, "sliding_window", None) if SLIDING_ATTENTION in kinds else None
