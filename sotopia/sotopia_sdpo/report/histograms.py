"""Count what a set of pairs looks like, beside the shares of the published set.

Comes in: numbers, one a pair. Goes out: a title and bars, each with its count and, where there is one, the published
share. Invariant: the bars of a histogram add up to the numbers that came in.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from sotopia_sdpo.pairs.published import Published


SMALLEST_GAIN, LARGEST_GAIN = -3, 7
"""The open bins at the ends; scores span 10 points each."""


class Bar(NamedTuple):
    """One line of a histogram."""

    label: str
    height: int
    """How many of the numbers are in its bin."""
    published: float | None = None


class Histogram(NamedTuple):
    """Bars with their title."""

    title: str
    note: str
    bars: list[Bar]

    def as_json(self) -> dict[str, Any]:
        """Return it as the page reads it."""
        return {"title": self.title, "note": self.note, "bars": [bar._asdict() for bar in self.bars]}


def counted(title: str, note: str, values: Iterable[int], published: Published) -> Histogram:
    """Count whole numbers in the published bins, and in bins of their own where they fall between."""
    shares = published.shares
    last = max(shares)
    counts = Counter(min(value, last) for value in values)
    bins = sorted(shares.keys() | counts.keys())
    bars = [Bar(f"≥ {last}" if bin_ == last else str(bin_), counts[bin_], shares.get(bin_)) for bin_ in bins]
    return Histogram(title, note, bars)


def of_gains(title: str, values: Iterable[float]) -> Histogram:
    """Count gains by whole points, with open bins at both ends."""
    gains = list(values)
    counts = Counter(max(SMALLEST_GAIN, min(math.floor(gain), LARGEST_GAIN)) for gain in gains)
    note = "" if all(float(gain).is_integer() for gain in gains) else "Rounded down to whole points."
    bins = range(min(counts), max(counts) + 1) if counts else ()
    return Histogram(title, note, [Bar(_gain_label(bin_), counts[bin_]) for bin_ in bins])


def _gain_label(gain: int) -> str:
    end = {SMALLEST_GAIN: "≤ ", LARGEST_GAIN: "≥ "}.get(gain, "")
    return end + signed(gain)


def signed(value: float) -> str:
    """Write a gain, with a real minus."""
    return f"{value:+g}".replace("-", "−") if value else "0"
