"""Means with 95 % intervals that are honest about scenarios: episodes of one scenario are not independent.

Comes in: values, each with the scenario it belongs to. Goes out: mean, low, high. The variance of the mean is the
cluster-robust one, sum over scenarios of (sum of residuals)^2 / n^2 times C / (C - 1), with Student's t of C - 1
degrees of freedom, where C is the number of scenarios.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple


CONFIDENCE = 0.95
INTEGRATION_STEPS = 2000
BISECTIONS = 60
LARGEST_T = 1000.0


class Estimate(NamedTuple):
    """A mean and how sure it is."""

    mean: float
    low: float
    high: float
    """Not a number, like low, where one scenario cannot tell."""
    count: int
    clusters: int

    @property
    def interval(self) -> str:
        """Write the interval, or that there is none."""
        return "-" if math.isnan(self.low) else f"[{decimals(self.low)}, {decimals(self.high)}]"

    def record(self) -> dict[str, float | int | None]:
        """Give it as JSON, which has no NaN."""
        low, high = (None if math.isnan(value) else value for value in (self.low, self.high))
        return {"mean": self.mean, "low": low, "high": high, "episodes": self.count, "scenarios": self.clusters}


def decimals(value: float, sign: str = "") -> str:
    """Write a figure with two decimals, and no minus in front of a zero."""
    return f"{round(value, 2) + 0.0:{sign}.2f}"


def clustered(values: Iterable[tuple[str, float]]) -> Estimate:
    """Estimate the mean of values that come in clusters.

    Raises:
        ValueError: if there are none.
    """
    items = list(values)
    if not items:
        raise ValueError("no values to estimate a mean of")
    mean = math.fsum(value for _, value in items) / len(items)
    residuals: dict[str, float] = defaultdict(float)
    for cluster, value in items:
        residuals[cluster] += value - mean
    clusters = len(residuals)
    if clusters < 2:
        return Estimate(mean, math.nan, math.nan, len(items), clusters)
    variance = math.fsum(r * r for r in residuals.values()) / len(items) ** 2 * clusters / (clusters - 1)
    margin = t_quantile((1 + CONFIDENCE) / 2, clusters - 1) * math.sqrt(variance)
    return Estimate(mean, mean - margin, mean + margin, len(items), clusters)


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Find Student's t of a probability above one half, by bisection on the integral of its density."""
    low, high = 0.0, LARGEST_T
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if 0.5 + _density_integral(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _density_integral(t: float, degrees: int) -> float:
    """Integrate Student's density from 0 to t by Simpson's rule, over the angle whose tangent is x / sqrt(degrees).

    In that angle the density is a cosine to the power degrees - 1, which is smooth however long the tail.
    """
    end = math.atan(t / math.sqrt(degrees))
    step = end / INTEGRATION_STEPS
    total = 1.0 + math.cos(end) ** (degrees - 1)
    for i in range(1, INTEGRATION_STEPS):
        total += (4 if i % 2 else 2) * math.cos(i * step) ** (degrees - 1)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)
    return math.exp(log_scale) * total * step / 3
