"""The loss of a segment: weights of turns and log-probabilities of scored tokens, tensors in and tensors out.

    SDPO   -log σ(β Σ_t [log π/π_ref (y_t^w | h_t^w) - log π/π_ref (y_t^l | h_t^l)]), t over the agent turns of the
           segment (arXiv 2501.01821)
    ETO    the same over the agent turns of both sessions, from the first that differs (arXiv 2403.02502)
    DMPO   ETO with turn t of a side's T weighted by φ(t, T) = (1 - γ^(T-t)) / (1 - γ^T), t from 0 (arXiv 2406.14868)

The sums are of plain token log-probabilities, without a length normalisation; σ and β are the host's.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.encoding import IGNORE_INDEX
from ..stages import STAGES


CHUNK_LOGITS, CHUNK_LOGITS_GPU = 1 << 22, 1 << 25
"""The number of logits worked on at a time: 16 MB in float32, little beside the logits of a real vocabulary.

On a GPU 128 MB, so that the work of a kernel takes longer than its launch.
"""


def turn_weights(stage: str, turns: int, first: int, gamma: float) -> list[float]:
    """Return the weight of every agent turn of one dialogue.

    Args:
        stage: a name in `STAGES`.
        turns: the number of agent turns of this dialogue.
        first: number (from 0) of the first scored turn; T and t count from it.
        gamma: DMPO's γ in (0, 1]; at 1 the limit (T - t) / T is taken.

    Returns:
        A weight a turn, 0 for turns that are not scored.
    """
    weight, scored = STAGES[stage].weight, turns - first
    return [0.0] * first + [weight(turn, scored, gamma) for turn in range(scored)]


class ScoredTokens(NamedTuple):
    """The N scored tokens of a batch of R rows, row by row and from left to right.

    Attributes:
        rows: (N,) the row of each.
        positions: (N,) the index of the token before it, whose logits predict it.
        targets: (N,) its id.
        weights: (N,) its weight.
    """

    rows: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor

    def sums(self, values: Tensor, rows: int) -> Tensor:
        """Return the sum of a value of each scored token over every one of R rows: (R,)."""
        # In float64: one after another in float32 costs digits that a sum of hundreds does not have to spare.
        wide = torch.zeros(rows, dtype=torch.float64, device=values.device)
        return wide.index_add(0, self.rows, values.double()).to(values.dtype)


def scored_tokens(labels: Tensor, loss_weights: Tensor) -> ScoredTokens:
    """Return the scored tokens of a batch.

    Args:
        labels: (R, T) int64, IGNORE_INDEX where nothing is scored; the logits at t-1 predict the label at t.
        loss_weights: (R, T) float32, read where labels are scored.
    """
    targets = labels[:, 1:]
    rows, positions = (targets != IGNORE_INDEX).nonzero(as_tuple=True)
    return ScoredTokens(rows, positions, targets[rows, positions], loss_weights[:, 1:][rows, positions])


def token_logps(logits: Tensor, source: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of N tokens; only a chunk of the logits is copied at a time.

    Args:
        logits: (K, V) of any float type; computed on in float32 or wider.
        source: (N,) the row of the logits that predicts each token; a row may predict several.
        targets: (N,) the tokens' ids.

    Returns:
        (N,) log-probabilities, differentiable in the logits.
    """
    logps: Tensor = _TokenLogps.apply(logits, source, targets)  # type: ignore[no-untyped-call]
    return logps


class _TokenLogps(torch.autograd.Function):
    """log softmax(logits)[source, targets]; keeps one number a token for the gradient, where autograd keeps V."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, source: Tensor, targets: Tensor) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        normalizers = torch.empty(len(source), dtype=wide, device=logits.device)
        logps = torch.empty_like(normalizers)
        for part in _chunks(logits, source):
            rows = logits[source[part]].to(wide)
            normalizers[part] = rows.logsumexp(-1)
            logps[part] = rows.gather(-1, targets[part, None])[:, 0] - normalizers[part]
        ctx.save_for_backward(logits, source, targets, normalizers)
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, source, targets, normalizers = ctx.saved_tensors
        result = torch.zeros_like(logits)
        for part in _chunks(logits, source):
            # d log p(target) / d logit = [is target] - softmax
            rows = logits[source[part]].to(normalizers.dtype).sub_(normalizers[part, None]).exp_()
            rows.mul_(-grad[part, None]).scatter_add_(-1, targets[part, None], grad[part, None])
            result.index_add_(0, source[part], rows.to(logits.dtype))
        return result, None, None


def _chunks(logits: Tensor, source: Tensor) -> Iterator[slice]:
    """Yield slices of the tokens whose logits are CHUNK_LOGITS numbers at most, or one token's."""
    step = max(1, (CHUNK_LOGITS_GPU if logits.is_cuda else CHUNK_LOGITS) // logits.shape[-1])
    return (slice(start, start + step) for start in range(0, len(source), step))
