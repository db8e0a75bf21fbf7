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


WIDEST = 10
"""The largest gain on a scale like SOTOPIA's."""
MOST_BINS = 10
"""Of gains on another scale."""
MOST_COUNTED = 10
"""The open bin of whole numbers for which nothing is published."""


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


def counted(title: str, note: str, values: Iterable[int], published: Published | None = None) -> Histogram:
    """Count whole numbers in the published bins, and in bins of their own where they fall between."""
    shares = published.shares if published else {}
    last = max(shares, default=MOST_COUNTED)
    counts = Counter(min(value, last) for value in values)
    bins = sorted(shares.keys() | counts.keys())
    bars = [Bar(f"≥ {last}" if bin_ == last else str(bin_), counts[bin_], shares.get(bin_)) for bin_ in bins]
    return Histogram(title, note, bars)


def of_gains(title: str, values: Iterable[float]) -> Histogram:
    """Count gains by whole points, with open bins at both ends; parts of one point, or many points, in even bins."""
    gains = list(values)
    largest, are_whole = max(map(abs, gains), default=0), all(float(gain).is_integer() for gain in gains)
    if largest > WIDEST or (largest <= 1 and not are_whole):
        return _spread(title, gains)
    counts = Counter(max(SMALLEST_GAIN, min(math.floor(gain), LARGEST_GAIN)) for gain in gains)
    note = "" if are_whole else "Rounded down to whole points."
    bins = range(min(counts), max(counts) + 1) if counts else ()
    return Histogram(title, note, [Bar(_gain_label(bin_), counts[bin_]) for bin_ in bins])


def _spread(title: str, gains: list[float]) -> Histogram:
    """Count gains in even bins, whose width is a round number."""
    width = _round_width((max(gains) - min(gains)) / MOST_BINS)
    counts = Counter(math.floor(round(gain / width, 9)) for gain in gains)
    bars = [
        Bar(f"{signed(bin_ * width)} to {signed((bin_ + 1) * width)}", counts[bin_])
        for bin_ in range(min(counts), max(counts) + 1)
    ]
    return Histogram(title, "The upper end of a bin belongs to the next one.", bars)


def _round_width(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 0.1
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _gain_label(gain: int) -> str:
    end = {SMALLEST_GAIN: "≤ ", LARGEST_GAIN: "≥ "}.get(gain, "")
    return end + signed(gain)


def signed(value: float) -> str:
    """Write a gain, with a real minus."""
    return f"{value:+g}".replace("-", "−") if value else "0"
