"""Outcomes: a name, a finite number, a range that may be open."""

from typing import Any

import pytest

from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.outcomes import Outcome, named, range_of


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0, 1, "0 to 1"), (-5, 5, "-5 to 5"), (0.5, None, "at least 0.5"), (None, 1, "at most 1"), (None, None, "")],
)
def test_a_range_is_written_as_far_as_it_is_known(low: Any, high: Any, text: str) -> None:
    assert range_of(low, high) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "is_in"),
    [(1, 0, 1, True), (0, 0, 1, True), (1.01, 0, 1, False), (-1, 0, None, False), (9, 0, None, True), (-9, None, None, True)],
)  # fmt: skip
def test_the_ends_of_a_range_belong_to_it(value: Any, low: Any, high: Any, is_in: bool) -> None:
    assert Outcome("r", value, low, high).is_in_range is is_in


@pytest.mark.parametrize("value", ["1", True, None, float("nan"), float("inf"), 10**400])
def test_only_finite_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Outcome("r", value)


def test_an_outcome_needs_a_name() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        Outcome("", 1)


def test_sotopias_dimensions_are_seven_of_them() -> None:
    found = [dimension.outcome(0) for dimension in DIMENSIONS]
    assert len(found) == 7 and all(one.is_in_range for one in found)
    assert named(found, "secret") == Outcome("secret", 0, -10, 0) and named(found, "reward") is None
