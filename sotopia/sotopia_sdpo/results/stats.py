"""Means with 95 % intervals that are honest about scenarios: episodes of one scenario are not independent.

Comes in: values, each with the scenario it belongs to. Goes out: mean, low, high. The variance of the mean is the
cluster-robust one, sum over scenarios of (sum of residuals)^2 / n^2 times C / (C - 1), with Student's t of C - 1
degrees of freedom, where C is the number of scenarios. A share never leaves 0 to 1, and where all clusters agree on
0 or 1 its interval is the exact one of C independent trials (Clopper and Pearson 1934).
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    """NaN, like low, where there is only one cluster."""
    values: int
    """How many values there are."""
    clusters: int

    @property
    def interval(self) -> str:
        """The interval as text, "-" where there is none."""
        return "-" if math.isnan(self.low) else f"[{decimals(self.low)}, {decimals(self.high)}]"

    def record(self) -> dict[str, float | int | None]:
        """Return it as JSON, which has no NaN."""
        low, high = (None if math.isnan(value) else value for value in (self.low, self.high))
        return {"mean": self.mean, "low": low, "high": high, "episodes": self.values, "scenarios": self.clusters}


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


def share(values: Iterable[tuple[str, float]]) -> Estimate:
    """Estimate the mean of values from 0 to 1 that come in clusters.

    Raises:
        ValueError: if there are none.
    """
    found = clustered(values)
    if found.mean not in (0.0, 1.0):
        return found._replace(low=max(0.0, found.low), high=min(1.0, found.high)) if found.clusters > 1 else found
    bound = ((1 - CONFIDENCE) / 2) ** (1 / found.clusters)
    return found._replace(low=bound, high=1.0) if found.mean else found._replace(low=0.0, high=1 - bound)


def t_quantile(probability: float, degrees: float) -> float:
    """Return the quantile of Student's t distribution."""
    # Loaded here: commands without a table need not wait for it.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
