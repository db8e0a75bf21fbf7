"""What the points of a dialogue are worth, and the searches that have continuations played to find out.

Comes in: an agent's dialogue of T turns with its score, and the scores of continuations, by the point they start from.
Goes out: the turn after which the value falls most, or the turn after which a score is reached. Definitions:

- V(t), the *value* of point t, is the mean score of continuations that start after the first t of the agent's turns
  and what they were answered; V(0) of those from the beginning. V(T) is the dialogue's own score, exactly.
- The *fall* of turn t is V(t) - V(t + 1); the located turn has the largest one, the earliest among equals.
- The interval of a value or of a fall is the normal one of 90 %. The variance of n scores is their sum of squared
  deviations, plus the square of a quarter of the score's range, over n: so it is never 0, however alike a few are.

A search is a generator: it yields how many continuations of a point it wants, those that it has among them, and is
sent the scores of all of these. Invariant: it depends on scores alone, so one that was stopped asks for the same
again.
"""

from collections.abc import Generator, Mapping, Sequence
from math import fsum, sqrt
from typing import Any, NamedTuple, TypeVar


Z = 1.645
"""The normal quantile of a two-sided interval of 90 %."""
WHOLE = 10
"""Turns of a dialogue whose points are all played; the agent of a session of SOTOPIA has no more."""
TOLERANCE = 0.1
"""Of the score's range: as much as a value may be below a score that it has reached."""
PRIOR = 1 / 4
"""Of the score's range: a deviation that is counted beside those of the scores."""

T = TypeVar("T")
Wanted = Mapping[int, int]
"""How many continuations, by point."""
Scores = Mapping[int, Sequence[float]]
"""Scores of continuations, by point, as many as were wanted."""
Search = Generator[Wanted, Scores, T]


class Value(NamedTuple):
    """What a point is worth."""

    mean: float
    error: float = 0.0
    """The standard error."""
    rollouts: int = 0
    """How many continuations; 0 for a dialogue's own score."""

    def record(self, point: int) -> dict[str, Any]:
        """Return it as a file has it."""
        margin = Z * self.error
        ends = {"low": round(self.mean - margin, 4), "high": round(self.mean + margin, 4)} if self.rollouts else {}
        return {"turns": point, "value": round(self.mean, 4), **ends, "continuations": self.rollouts}


class Played(NamedTuple):
    """A dialogue whose points can be played on from."""

    turns: int
    """The agent's."""
    score: float
    spread: float
    """The range of its score, from end to end."""

    def value(self, point: int, scores: Scores) -> Value:
        """Return what a point is worth, which must have been played."""
        if point == self.turns:
            return Value(self.score)
        found, count = scores[point], len(scores[point])
        mean = fsum(found) / count
        squares = fsum((score - mean) ** 2 for score in found) + (PRIOR * self.spread) ** 2
        return Value(mean, sqrt(squares) / count, count)

    def values(self, scores: Scores) -> dict[int, Value]:
        """Return the values of all points that were played, and of the last one."""
        return {point: self.value(point, scores) for point in [*sorted(scores), self.turns]}

    def fall(self, start: int, end: int, scores: Scores) -> "Fall":
        """Return by how much the value falls between two points."""
        return Fall(start, end, self.value(start, scores), self.value(end, scores))


class Fall(NamedTuple):
    """By how much the value falls from one point to another."""

    start: int
    end: int
    before: Value
    after: Value

    @property
    def mean(self) -> float:
        """By how much; below 0 where it rises."""
        return self.before.mean - self.after.mean

    @property
    def margin(self) -> float:
        """Half of the interval."""
        return Z * sqrt(self.before.error**2 + self.after.error**2)

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.margin

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.margin


class Found(NamedTuple):
    """The turn after which the value falls most, `fall.start`, and the values on the way to it."""

    fall: Fall
    values: dict[int, Value]

    def record(self) -> list[dict[str, Any]]:
        """Return the values as a file has them."""
        return [value.record(point) for point, value in sorted(self.values.items())]


def steepest(played: Played, most: int, known: Scores | None = None) -> Search[Found]:
    """Find the turn after which the value falls most without playing all points, or all of them as often.

    Stretches of turns are compared by how far the value falls over each. A dialogue of up to WHOLE turns is taken in
    single ones; a longer one is one stretch at first, and the stretch over which the value falls most is halved as
    long as it has more than one turn. A point is played half of the continuations at first; the others are played for
    the ends of the leader, and of every stretch whose upper bound reaches the leader's lower bound, before the leader
    is halved or taken. Below that bound no fall is as large. With exact values that never rise, this finds the turn
    of a full search; where they rise, halving may overlook a fall that is made good again within its stretch.

    Args:
        played: the dialogue.
        most: the most continuations of a point.
        known: scores that are there already.
    """
    scores = dict(known or {})
    points = list(range(played.turns + 1)) if played.turns <= WHOLE else [0, played.turns]
    half = (most + 1) // 2
    while True:
        if missing := {point: half for point in points[:-1] if point not in scores}:
            scores.update((yield missing))
        falls = [played.fall(*ends, scores) for ends in zip(points, points[1:], strict=False)]
        leader = max(falls, key=lambda fall: fall.mean)
        rivals = [fall for fall in falls if fall is not leader and fall.high >= leader.low]
        is_turn = leader.end - leader.start == 1
        open_ends = {point for fall in (leader, *rivals) for point in (fall.start, fall.end)} if rivals else set()
        open_ends |= {leader.start, leader.end} if is_turn else set()
        if short := {point: most for point in sorted(open_ends - {played.turns}) if len(scores[point]) < most}:
            scores.update((yield short))
        elif is_turn:
            return Found(leader, played.values(scores))
        else:
            points = sorted([*points, (leader.start + leader.end) // 2])


class Regained(NamedTuple):
    """The point at which a dialogue is as good as won, and what it is worth."""

    point: int
    value: Value


def regained(played: Played, first: int, most: int) -> Search[Regained]:
    """Find the first point whose value has reached a dialogue's own score: is at most TOLERANCE of the range below it.

    By halving, as if values that have reached it stay there; T, where the value is that score, if no earlier one.

    Args:
        played: the dialogue that went well.
        first: the first point that may be it.
        most: how many continuations of a point.
    """
    low, high, reached = first, played.turns, Value(played.score)
    while low < high:
        middle = (low + high) // 2
        value = played.value(middle, (yield {middle: most}))
        if value.mean >= played.score - TOLERANCE * played.spread:
            high, reached = middle, value
        else:
            low = middle + 1
    return Regained(high, reached)
