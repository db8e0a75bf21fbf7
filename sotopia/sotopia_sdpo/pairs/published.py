"""What the paper's authors report of their data, and how ours compares.

Source: the published set of preference pairs of arXiv 2501.01821, counted over its released files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Published(NamedTuple):
    """Shares that the paper's authors report, with our name for what is counted."""

    name: str
    shares: Mapping[int, float]
    """By value; the largest one stands for itself and all above it."""


SEGMENT_LENGTHS = Published("segment length", {1: 0.04, 3: 0.89, 5: 0.06, 7: 0.01})
"""In messages of both speakers."""
LOCATED_TURNS = Published("located turn", {1: 0.30, 3: 0.48, 5: 0.09, 7: 0.13})
"""As an index of the dialogue."""
PUBLISHED_PAIRS = 1019


def shares_table(published: Published, values: Sequence[int]) -> str:
    """Compare the distribution of some values with the published one, a line a value."""
    buckets = sorted(published.shares)
    counts = Counter(bucket_of(buckets, value) for value in values)
    lines = [f"{published.name:<16}{'here':>8}{'published':>12}"]
    for bucket in buckets:
        label = f"{bucket} and more" if bucket == buckets[-1] else str(bucket)
        here = f"{counts[bucket] / len(values):.0%}" if values else "-"
        lines.append(f"  {label:<14}{here:>8}{published.shares[bucket]:>12.0%}")
    return "\n".join(lines)


def bucket_of(buckets: Sequence[int], value: int) -> int:
    """Return the bucket of a value: the largest one that is not above it."""
    return max((bucket for bucket in buckets if bucket <= value), default=buckets[0])
