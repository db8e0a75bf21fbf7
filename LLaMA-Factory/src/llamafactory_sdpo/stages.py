"""The training stages of this package, one row each. To add a stage, add a row; nothing else names one.

Weights are those of the loss (see `step.loss`): a row's function returns the weight of scored turn t of T, t from 0.
"""

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


_ROWS = (
    Stage("sdpo", "segment", equal_weight, True, "segment-level DPO on the key segment of two dialogues"),
    Stage("eto", "session", equal_weight, False, "DPO on two whole dialogues from the first agent turn that differs"),
    Stage("dmpo", "session", discounted_weight, False, "the same with later turns discounted by dmpo_gamma"),
)

STAGES: dict[str, Stage] = {row.name: row for row in _ROWS}


def stages_scoring(scores: Literal["segment", "session"]) -> list[str]:
    """Return the names of the stages that score a segment, or a session."""
    return [name for name, stage in STAGES.items() if stage.scores == scores]
