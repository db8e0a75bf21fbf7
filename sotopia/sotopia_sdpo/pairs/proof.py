"""Locate the turn of a negative with the largest fall, and say what that proves of a turn that a model has named.

Comes in: negatives, and a model's locations where there are some. Goes out: searches that end with a `Proof`. The
verdicts, with the values, falls and intervals of `values.py`:

- *confirmed*: the value falls after the turn that the model named: the interval of its fall is above 0.
- *another turn*: not after that one, but after the turn with the largest fall.
- *no single turn*: after neither, but over the dialogue as a whole: the interval of V(0) - V(T) is above 0.
- *not the agent's fault*: not even that; from the beginning the agent fares no better than here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.account import Missed
from sotopia_sdpo.pairs.continuations import Side, Spent, agent_turns
from sotopia_sdpo.pairs.locate import with_location
from sotopia_sdpo.pairs.records import LocatedLog, LocatedSide
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.pairs.values import Fall, Found, Played, Search, Value, steepest


CONFIRMED, ANOTHER, NO_SINGLE, NOT_THE_AGENTS = VERDICTS = (
    "confirmed",
    "another turn",
    "no single turn",
    "not the agent's fault",
)
NO_FALL = "with no turn after which the value falls"
NOT_PLAYED = "whose continuations failed or are unscored"


class Proof(NamedTuple):
    """What a search says of the turn that a model has named."""

    verdict: str
    found: Found


def verified(played: Played, most: int, turn: int) -> Search[Proof]:
    """Say whether a turn is the one that went wrong; the others are only searched where it is not confirmed.

    Args:
        played: the negative.
        most: the most continuations of a point.
        turn: the number of the turn that was named, among the agent's.
    """
    scores: dict[int, Sequence[float]] = dict(
        (yield {point: most for point in (turn, turn + 1) if point < played.turns})
    )
    named = played.fall(turn, turn + 1, scores)
    if named.low > 0:
        return Proof(CONFIRMED, Found(named, played.values(scores)))
    found = yield from steepest(played, most, scores)
    if found.fall.low > 0:
        return Proof(ANOTHER, found)
    whole = Fall(0, played.turns, found.values[0], found.values[played.turns])
    return Proof(NO_SINGLE if whole.low > 0 else NOT_THE_AGENTS, found)


def located_at(negative: Side, found: Found, reason: str = "", **more: Any) -> LocatedSide | LocatedLog:
    """Add to a negative the turn with the largest fall, the values that say so, and a reason, if there is another."""
    location = agent_turns(negative)[found.fall.start]
    return with_location(negative, location, reason or reason_of(found.fall), values=found.record(), **more)


def reason_of(fall: Fall) -> str:
    """Say by how much the value falls, and over how many continuations."""
    before, after = fall.before, fall.after
    differs = after.rollouts != before.rollouts
    then = f", then {after.rollouts or 'its own score'}" if differs else ""
    return f"value falls from {before.mean:.2f} to {after.mean:.2f} after this turn, K = {before.rollouts}{then}"


def missed_of(tally: Tally, spent: Spent) -> Missed:
    """Return how many dialogues have no result; at least one where not all was played, or what was is gone."""
    number = max(tally.dropped[NOT_PLAYED], bool(spent.stopped_because))
    reason = spent.stopped_because or NOT_PLAYED
    return Missed(number, tally.total, tally.unit, reason, is_stopped=bool(spent.stopped_because))


def regained_reason(value: Value, own: float) -> str:
    """Say what a positive is worth where its segment ends, beside its own score."""
    of = f"K = {value.rollouts}" if value.rollouts else "its last turn"
    return f"value is {value.mean:.2f} of {own:.2f} after this turn, {of}"
