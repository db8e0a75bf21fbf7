"""Holm's correction: p-values of several comparisons, raised so that all of them together err in 5 % of cases.

Comes in: p-values. Goes out: the adjusted ones, in the same order: of sorted p_(1) ≤ … ≤ p_(m), the i-th becomes the
largest of (m - j + 1) p_(j) over j ≤ i, at most 1 (Holm 1979, jstor.org/stable/4615733). NaN counts as no comparison.
"""

import math
from collections.abc import Sequence


def holm(values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values."""
    order = sorted((index for index, value in enumerate(values) if not math.isnan(value)), key=values.__getitem__)
    adjusted, largest = [math.nan] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted
