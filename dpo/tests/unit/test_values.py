"""Values of points and the searches on them: sums by hand, and a full search as the slow and obvious one."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.pairs.proof import ANOTHER, CONFIRMED, NO_SINGLE, NOT_THE_AGENTS, reason_of, verified
from sotopia_sdpo.pairs.values import Fall, Played, Search, T, Value, regained, steepest


Draw = Callable[[int, int], float]
"""The score of a continuation, by point and trial."""


def carry_out(search: Search[T], draw: Draw) -> tuple[T, Counter[int]]:
    """Run a search, and count what it had played, by point; the same continuation is never played twice."""
    played: Counter[int] = Counter()
    known: dict[int, list[float]] | None = None
    while True:
        try:
            wanted = search.send(known)  # type: ignore[arg-type]
        except StopIteration as done:
            return done.value, played
        for point, count in wanted.items():
            assert count > played[point], "asks for what it has"
            played[point] = count
        known = {point: [draw(point, trial) for trial in range(count)] for point, count in wanted.items()}


def test_a_value_by_hand() -> None:
    """Scores 1, 0, 1, 1 in a range of 1: squares 3/16 * 4 = 3/4, and 1/16 on top, over 4; over 4 again for a mean."""
    played = Played(3, 0.5, 1.0)
    value = played.value(1, {1: [1, 0, 1, 1]})
    assert value == Value(0.75, pytest.approx(sqrt((3 / 4 + 1 / 16) / 4 / 4)), 4)
    assert played.value(3, {}) == Value(0.5, 0.0, 0)
    alike = played.fall(1, 3, {1: [1, 1]})
    assert alike.mean == 0.5 and alike.low == pytest.approx(0.5 - 1.645 * sqrt(1 / 16 / 2 / 2))
    assert value.record(1)["continuations"] == 4 and "low" not in Value(0.5).record(3)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (Value(0.8, 0.1, 8), Value(0.2, 0.1, 8), "from 0.80 to 0.20 after this turn, K = 8"),
        (Value(0.8, 0.1, 8), Value(0.2, 0.1, 4), "from 0.80 to 0.20 after this turn, K = 8, then 4"),
        (Value(80.0, 0.1, 8), Value(50.0), "from 80.00 to 50.00 after this turn, K = 8, then its own score"),
    ],
)
def test_the_reason(before: Value, after: Value, text: str) -> None:
    assert reason_of(Fall(1, 2, before, after)) == f"value falls {text}"


def slow(turns: int, own: float, most: int, draw: Draw) -> int:
    """Play every point, and take the first of the largest falls."""
    means = [sum(draw(point, trial) for trial in range(most)) / most for point in range(turns)] + [own]
    falls = [before - after for before, after in zip(means, means[1:], strict=False)]
    return falls.index(max(falls))


@given(st.lists(st.integers(0, 10), min_size=1, max_size=30), st.integers(0, 10), st.integers(2, 8))
def test_where_values_never_rise_halving_finds_the_turn_of_a_full_search(
    values: list[int], own: int, most: int
) -> None:
    *_, own = exact = sorted([*values, own], reverse=True)
    found, played = carry_out(steepest(Played(len(values), own, 10), most), lambda point, _: exact[point])
    falls = [before - after for before, after in zip(exact, exact[1:], strict=False)]
    assert found.fall.mean == max(falls)
    assert max(played.values()) <= most and found.fall.end == found.fall.start + 1
    assert found.values[found.fall.start].rollouts == most and list(found.values) == sorted(found.values)
    assert found.values[len(values)] == Value(own)


@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(2, 6))
def test_a_short_dialogue_is_searched_in_full(seed: int, turns: int, most: int) -> None:
    """Scores that are alike at a point, so that an early end cannot change a mean."""
    rng = random.Random(seed)
    scores = [rng.randint(0, 10) for _ in range(turns)]
    found, played = carry_out(steepest(Played(turns, 3, 10), most), lambda point, _: scores[point])
    assert found.fall.start == slow(turns, 3, most, lambda point, _: scores[point])
    assert set(played) == set(range(turns))


def test_one_wrong_turn_of_many_is_found_with_a_few_points() -> None:
    """Half of the continuations before turn 37 of 100 are solved, none after it."""
    found, played = carry_out(steepest(Played(100, 0.0, 1.0), 8), lambda point, trial: (trial % 2) * (point <= 37))
    assert found.fall.start == 37 and found.fall.before.mean == 0.5 and found.fall.after.mean == 0
    assert 37 in played and 38 in played and played.total() <= 10 * 8


def constant(values: Sequence[float]) -> Draw:
    return lambda point, _: values[point]


@pytest.mark.parametrize(
    ("values", "own", "named", "verdict", "turn"),
    [
        ([10, 10, 2, 2], 2, 1, CONFIRMED, 1),
        ([10, 10, 2, 2], 2, 3, ANOTHER, 1),
        ([10, 10, 10, 10], 2, 3, CONFIRMED, 3),
        ([10, 9, 8, 7, 6, 5], 4, 2, NO_SINGLE, 0),
        ([2, 2, 2, 2], 2, 1, NOT_THE_AGENTS, 0),
        ([2, 10, 2, 2], 2, 0, ANOTHER, 1),
    ],
)
def test_verdicts(values: list[float], own: float, named: int, verdict: str, turn: int) -> None:
    """K = 4, range 10: one mean of equal scores has an error of 10/16 * 2, so a fall of 1 is uncertain, one of 8 not."""
    proof, played = carry_out(verified(Played(len(values), own, 10), 4, named), constant(values))
    assert (proof.verdict, proof.found.fall.start) == (verdict, turn)
    assert verdict != CONFIRMED or set(played) <= {named, named + 1}


@given(st.lists(st.integers(0, 10), min_size=2, max_size=30), st.integers(0, 10), st.integers(1, 5))
def test_the_segment_ends_at_the_first_point_that_has_regained(values: list[int], own: int, first: int) -> None:
    first = min(first, len(values))
    rising = sorted(values)
    (end, value), played = carry_out(regained(Played(len(values), own, 10), first, 4), constant(rising))
    obvious = next((point for point in range(first, len(values)) if rising[point] >= own - 1), len(values))
    assert end == obvious and len(played) <= 5
    assert value.mean == (rising[end] if end < len(values) else own)
