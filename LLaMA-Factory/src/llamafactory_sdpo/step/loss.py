"""The loss of a segment: weights of turns and log-probabilities of scored tokens, tensors in and tensors out.

    SDPO   -log σ(β Σ_t [log π/π_ref (y_t^w | h_t^w) - log π/π_ref (y_t^l | h_t^l)]), t over the agent turns of the
           segment (arXiv 2501.01821)
    ETO    the same over the agent turns of both sessions, from the first that differs (arXiv 2403.02502)
    DMPO   ETO with turn t of a side's T weighted by φ(t, T) = (1 - γ^(T-t)) / (1 - γ^T), t from 0 (arXiv 2406.14868)

So all are Σ_t w_t log π/π_ref (y_t | h_t) on either side, and differ in the weights w alone, which the data may give
too. The sums are of plain token log-probabilities; σ and β are the host's. `loss_norm` divides them, on either side:

    length Σ_t w_t log π/π_ref (y_t | h_t) / Σ_t w_t |y_t|, length-normalised DPO (Tülu 3, arXiv 2411.15124)
    turns  Σ_t w_t log π/π_ref (y_t | h_t) / Σ_t w_t, the mean over turns (ours)
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.encoding import IGNORE_INDEX
from ..stages import STAGES, Norm


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
        turns: (N,) the index of its turn in the row's weights.
    """

    rows: Tensor
    positions: Tensor
    targets: Tensor
    turns: Tensor

    def by_turn(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return the sums of a value of each scored token over turns: (R, K) float64, as the turns' weights."""
        # In float64: one after another in float32 costs digits that a sum of hundreds does not have to spare.
        return torch.zeros_like(weights).index_put((self.rows, self.turns), values.double(), accumulate=True)


def scored_tokens(labels: Tensor, turns: Tensor) -> ScoredTokens:
    """Return the scored tokens of a batch.

    Args:
        labels: (R, T) int64, IGNORE_INDEX where nothing is scored; the logits at t-1 predict the label at t.
        turns: (R, T) int64, the index of each label's turn, read where labels are scored.
    """
    targets = labels[:, 1:]
    rows, positions = (targets != IGNORE_INDEX).nonzero(as_tuple=True)
    return ScoredTokens(rows, positions, targets[rows, positions], turns[:, 1:][rows, positions])


def weights_of(batch: dict[str, Tensor]) -> Tensor:
    """Return the weights of the turns of a batch: (2B, K) float64, 0 for turns that a row has not, or not scored."""
    return batch["turn_weights"].view(torch.float64)


def tokens_of(batch: dict[str, Tensor]) -> Tensor:
    """Return how many scored tokens each turn of a batch has: (2B, K) float64; the first of a row is not predicted."""
    is_scored = (batch["labels"][:, 1:] != IGNORE_INDEX).double()
    return torch.zeros_like(weights_of(batch)).scatter_add(1, batch["turns"][:, 1:], is_scored)


def weighted(sums: Tensor, tokens: Tensor, weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of R sides, and their averages over tokens: Σ w·logp and Σ w·logp / Σ w, (R,).

    Args:
        sums: (R, K) float64, the log-probability of each turn.
        tokens: (R, K) its number of scored tokens.
        weights: (R, K) of each turn; w of a token is that of its turn.
        dtype: of the results.
    """
    wholes, lengths = ((weights * values).sum(-1).to(dtype) for values in (sums, tokens))
    return wholes, wholes / lengths


def normalised(sums: Tensor, tokens: Tensor, weights: Tensor, dtype: torch.dtype, norm: Norm) -> Tensor:
    """Return what a loss compares of R sides: (R,), the log-probabilities as `weighted`, divided as `norm` says."""
    wholes, averages = weighted(sums, tokens, weights, dtype)
    if norm == "turns":
        return wholes / weights.sum(-1).to(dtype)
    return averages if norm == "length" else wholes


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
