"""What a dialogue came to: a name, a number, and the range of the number where it is known.

A reward of a benchmark, a user's rating and each of SOTOPIA's seven dimensions are outcomes alike.
Invariant: the number is finite.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass


MOST_SHOWN_VALUE = 60


def check_number(value: Any) -> Any:
    """Check that a value is a finite number.

    Raises:
        ValueError: if it is not.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            return value
    except OverflowError:  # an integer beyond a float, of which no mean can be made
        pass
    raise ValueError(f"expected a number, found {str(value)[:MOST_SHOWN_VALUE]!r}")


Number = Annotated[int | float, BeforeValidator(check_number)]


@dataclass(frozen=True)
class Outcome:
    """One outcome of a dialogue; more is better."""

    name: Annotated[str, Field(min_length=1)]
    value: Number
    low: Number | None = None
    high: Number | None = None

    @property
    def is_in_range(self) -> bool:
        """Whether the number lies where it may."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


def range_of(low: float | None, high: float | None) -> str:
    """Write a range: `0 to 1`, `at least 0`, `at most 1`; empty where no end is known."""
    if low is None:
        return "" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def named(outcomes: Iterable[Outcome], name: str) -> Outcome | None:
    """Return the outcome of this name, where there is one."""
    return next((outcome for outcome in outcomes if outcome.name == name), None)
