"""Means of values that belong to a scenario and to a run, neither of which are independent of their like.

Comes in: values, each with its scenario and its run (one training and evaluation: a seed of an agent). Goes out: the
mean with its interval and its p-value. The unit is the scenario in a run; units of one scenario share the scenario,
those of one run the training. So the variance is clustered both ways (Cameron, Gelbach and Miller 2011, doi
10.1198/jbes.2010.07136): V = V_scenarios + V_runs - V_units, each the cluster-robust one of `stats`, and not less than
V_scenarios or V_runs, below which few clusters can bring it. Student's t has Satterthwaite's degrees of freedom,
V² / (V_scenarios² / (S - 1) + V_runs² / (R - 1)), as in tests over both subjects and items (Clark 1973, doi
10.1016/S0022-5371(73)80014-3), but not fewer than the smaller of S - 1 and R - 1. With one run, the scenarios are all
there is to cluster by. Where scenarios and runs cancel each other out, V is V_units; where all values are the same, of
which Student's t knows nothing, p is that of the sign test over the N clusters of that kind of which there are fewer,
2^(1-N). `test_results_league.py` measures how often it errs where nothing differs.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from sotopia_sdpo.results.stats import CONFIDENCE, Estimate, t_quantile


LEAST = 1e-9
"""A smaller error is none but that of rounding: scores have a few digits."""


class Value(NamedTuple):
    """One number."""

    scenario: str
    run: str
    value: float


class Crossed(NamedTuple):
    """A mean, and how sure it is."""

    estimate: Estimate
    runs: int
    units: int
    """How many pairs of a scenario and a run there are."""
    p: float
    """Two-sided, for a mean of 0; NaN where there is no interval."""


def crossed(values: Iterable[Value]) -> Crossed:
    """Estimate a mean, clustered by scenario and by run.

    Raises:
        ValueError: if there are no values.
    """
    items = list(values)
    if not items:
        raise ValueError("no values to estimate a mean of")
    mean = math.fsum(item.value for item in items) / len(items)
    residuals = [item.value - mean for item in items]
    scenarios, runs = [item.scenario for item in items], [item.run for item in items]
    units = list(zip(scenarios, runs, strict=True))
    counts = len(set(scenarios)), len(set(runs))
    if counts == (1, 1):
        return Crossed(Estimate(mean, math.nan, math.nan, len(items), 1), 1, 1, math.nan)
    by_scenario, by_run, by_unit = (_variance(residuals, clusters) for clusters in (scenarios, runs, units))
    variance = max(by_scenario, by_run, by_scenario + by_run - (by_unit if min(counts) > 1 else 0.0))
    free = [count - 1 for count in counts if count > 1]
    parts = zip((by_scenario, by_run), counts, strict=True)
    spread = math.fsum(part**2 / (count - 1) for part, count in parts if count > 1)
    if math.sqrt(variance) < LEAST:
        variance, spread = by_unit, 0.0
    degrees, error = max(min(free), variance**2 / spread if spread else 0.0), math.sqrt(variance)
    margin = t_quantile((1 + CONFIDENCE) / 2, degrees) * error
    estimate = Estimate(mean, mean - margin, mean + margin, len(items), counts[0])
    return Crossed(estimate, counts[1], len(set(units)), _p(mean, error, degrees, min(free) + 1))


def _variance(residuals: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return the cluster-robust variance of a mean; 0 where all is one cluster."""
    sums: dict[Hashable, float] = defaultdict(float)
    for cluster, residual in zip(clusters, residuals, strict=True):
        sums[cluster] += residual
    count = len(sums)
    if count < 2:
        return 0.0
    return math.fsum(found * found for found in sums.values()) / len(residuals) ** 2 * count / (count - 1)


def _p(mean: float, error: float, degrees: float, clusters: int) -> float:
    """Return the two-sided p-value of a mean under Student's t, or of values that are all the same."""
    from scipy.special import stdtr

    if error < LEAST:
        return 1.0 if abs(mean) < LEAST else 2.0 ** (1 - clusters)
    return 2 * float(stdtr(degrees, -abs(mean) / error))
