"""The training stages of this package, one row each, and the rules of `turn_weights`, one function each.

To add a stage or a rule, add it here; nothing else names one. Weights are those of the loss (see `step.loss`): a row's
function returns the weight of scored turn t of T, t from 0, and a rule a factor for each turn of one side.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple


class Stage(NamedTuple):
    """What tells one stage from another.

    Attributes:
        name: as in `stage: sdpo`.
        scores: the agent turns that carry loss. "segment": from the first differing one to the end of the key segment,
            or that one alone under `segment_scope: turn`; the sides share all that comes before. "session": from the
            first differing one to the end of both sides, which may part at the partner's turn, or at the start.
        weight: (t, T, `dmpo_gamma`) -> the weight in the loss of scored turn t of a side's T.
        may_shorten: whether a pair over `cutoff_len` may lose inner turns of its history.
        help: for `--help`, after the name.
    """

    name: str
    scores: Literal["segment", "session"]
    weight: Callable[[int, int, float], float]
    may_shorten: bool
    help: str


def equal_weight(turn: int, turns: int, gamma: float) -> float:
    """Return 1 for every turn."""
    return 1.0


def discounted_weight(turn: int, turns: int, gamma: float) -> float:
    """Return DMPO's weight (arXiv 2406.14868); at gamma 1 its limit."""
    if gamma == 1:
        return (turns - turn) / turns
    return (1 - gamma ** (turns - turn)) / (1 - gamma**turns)


def by_doubt(means: list[float]) -> list[float]:
    """Return factors that are large for turns of which the reference is unsure: u_t · n / Σ u, u_t = 1 - exp(m_t).

    exp(m_t) is the geometric mean of the probabilities of a turn's tokens, so u_t is 0 for a turn that is certain and
    1 at most: one strange turn cannot outweigh all others. Factors have the mean 1; if every turn is certain, or there
    is one alone, they are 1. After the idea of arXiv 2609.16760; the formula is ours.

    Args:
        means: m_t, the mean log-probability of a token, of the n turns of a side that have no weight in the data.
    """
    doubts = [-math.expm1(min(mean, 0.0)) for mean in means]
    total = sum(doubts)
    return [doubt * len(doubts) / total if total else 1.0 for doubt in doubts]


RULES: dict[str, Callable[[list[float]], list[float]]] = {"confidence": by_doubt}
"""The values of `turn_weights` besides "stage" -> means of the reference's log-probabilities -> factors of mean 1, by
which the stage's weights are multiplied."""

_ROWS = (
    Stage("sdpo", "segment", equal_weight, True, "segment-level DPO on the key segment of two dialogues"),
    Stage("eto", "session", equal_weight, False, "DPO on two whole dialogues from the first agent turn that differs"),
    Stage("dmpo", "session", discounted_weight, False, "the same with later turns discounted by dmpo_gamma"),
)

STAGES: dict[str, Stage] = {row.name: row for row in _ROWS}


AVERAGED_LOSSES = ("ipo", "orpo", "simpo")
"""Variants of `pref_loss` that work on the average log-probability of a token instead of the sum."""

Norm = Literal["none", "length", "turns"]
"""By what the sum over a side's scored tokens is divided: see `step.loss.normalised`."""


def stages_scoring(scores: Literal["segment", "session"]) -> list[str]:
    """Return the names of the stages that score a segment, or a session."""
    return [name for name, stage in STAGES.items() if stage.scores == scores]
