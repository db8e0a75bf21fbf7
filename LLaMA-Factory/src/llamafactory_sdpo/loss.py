"""The loss of a segment: weights of turns and weighted log-probabilities, tensors in and tensors out.

    SDPO   -log σ(β Σ_t [log π/π_ref (y_t^w | h_t^w) - log π/π_ref (y_t^l | h_t^l)]), t over the agent turns of the
           segment (arXiv 2501.01821)
    ETO    the same over all agent turns of both sessions (arXiv 2403.02502)
    DMPO   ETO with turn t of T weighted by φ(t, T) = (1 - γ^(T-t)) / (1 - γ^T), t from 0 (arXiv 2406.14868)

The sums are of plain token log-probabilities, without a length normalisation; σ and β are the host's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .encoding import IGNORE_INDEX
from .pairs import Stage


def turn_weights(stage: Stage, turns: int, first: int, gamma: float) -> list[float]:
    """Weight every agent turn of one dialogue.

    Args:
        stage: sdpo, eto or dmpo.
        turns: T, the number of agent turns of this dialogue.
        first: number (from 0) of the first scored turn; 0 for whole sessions.
        gamma: DMPO's γ in (0, 1]; at 1 the limit (T - t) / T is taken.

    Returns:
        T weights, 0 for turns that are not scored.
    """
    if stage != "dmpo":
        return [0.0] * first + [1.0] * (turns - first)
    if gamma == 1:
        return [(turns - t) / turns for t in range(turns)]
    return [(1 - gamma ** (turns - t)) / (1 - gamma**turns) for t in range(turns)]


class SegmentLogps(NamedTuple):
    """What a model says of the scored tokens of R dialogues with N scored tokens in all.

    Attributes:
        sums: (R,) weighted sums of token log-probabilities.
        weights: (R,) sums of the weights, the divisor of an average.
        logits: (N, V) the logits that predict the scored tokens, in the order of the rows.
        rows: (N,) the dialogue of each scored token.
    """

    sums: Tensor
    weights: Tensor
    logits: Tensor
    rows: Tensor


def segment_logps(logits: Tensor, labels: Tensor, loss_weights: Tensor) -> SegmentLogps:
    """Sum the weighted log-probabilities of the labels.

    Args:
        logits: (R, T, V) of any float type; computed on in float32 or wider.
        labels: (R, T) int64, IGNORE_INDEX where nothing is scored; the logits at t-1 predict the label at t.
        loss_weights: (R, T) float32, read where labels are scored.
    """
    targets = labels[:, 1:]
    scored = targets != IGNORE_INDEX
    rows = scored.nonzero()[:, 0]
    picked = logits[:, :-1][scored]
    picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
    token_logps = -torch.nn.functional.cross_entropy(picked, targets[scored], reduction="none")
    weights = loss_weights[:, 1:][scored].to(token_logps.dtype)
    zeros = token_logps.new_zeros(len(labels))
    return SegmentLogps(
        sums=zeros.index_add(0, rows, token_logps * weights),
        weights=zeros.index_add(0, rows, weights),
        logits=picked,
        rows=rows,
    )
