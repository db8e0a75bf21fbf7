"""How two ways of scoring agree, and what their difference goes with.

Comes in: pairs of numbers, each with the cluster it belongs to (an episode: its two sides are not independent). Goes
out: a figure, and an interval where one is stated.
Invariant: every interval is that of the mean of the figure's influence values (Hampel et al., Robust Statistics,
1986) over the clusters, so that nothing is assumed of how the numbers are distributed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.stats import Estimate, clustered


SAME = 1e-9
"""Variances below it are those of a constant that was rounded."""


class Pair(NamedTuple):
    """Two numbers about the same thing."""

    cluster: str
    x: float
    y: float


class _Moments(NamedTuple):
    """Of pairs: deviations from the means, and the means of their squares and products."""

    dx: list[float]
    dy: list[float]
    xx: float
    yy: float
    xy: float


def correlation(pairs: Sequence[Pair]) -> Estimate | None:
    """Return Pearson's r, with the interval that Fisher's z gives; None where there is no r.

    The influence of a pair on z is (u v - r (u^2 + v^2) / 2) / (1 - r^2), u and v being its standard scores.
    """
    if not _varies(pairs):
        return None
    m = _moments(pairs)
    r = m.xy / math.sqrt(m.xx * m.yy)
    if 1 - r * r < SAME:
        return Estimate(r, r, r, len(pairs), len({pair.cluster for pair in pairs}))
    influences = (
        (u * v / math.sqrt(m.xx * m.yy) - r * (u * u / m.xx + v * v / m.yy) / 2) / (1 - r * r)
        for u, v in zip(m.dx, m.dy, strict=True)
    )
    z = _around(math.atanh(r), pairs, influences)
    return z._replace(mean=r, low=math.tanh(z.low), high=math.tanh(z.high))


def slope(pairs: Sequence[Pair]) -> Estimate | None:
    """Return by how much y grows with x by least squares; of a 0/1 x, the difference of means. None without an x.

    The influence of a pair is (x - mean) times its residual over the variance of x, so the interval is the
    cluster-robust one (Liang and Zeger, Biometrika 1986).
    """
    if len(pairs) < 3:
        return None
    m = _moments(pairs)
    if m.xx < SAME:
        return None
    b = m.xy / m.xx
    return _around(b, pairs, (u * (v - b * u) / m.xx for u, v in zip(m.dx, m.dy, strict=True)))


def long_against_short(pairs: Sequence[Pair]) -> Estimate | None:
    """Return what y gains from one standard deviation of x below its mean to one above it."""
    m = _moments(pairs) if len(pairs) > 1 else None
    if m is None or m.xx < SAME:
        return None
    scale = 2 * math.sqrt(m.xx)
    return slope([pair._replace(x=pair.x / scale) for pair in pairs])


def weighted_kappa(pairs: Sequence[Pair]) -> float | None:
    """Return kappa with quadratic weights (Cohen, Psychological Bulletin 1968); None where nothing varies.

    One minus the mean squared difference over the one that chance would give. It needs no categories, so that means
    of several raters are not rounded; of whole numbers it is the usual one.
    """
    if not pairs:
        return None
    m = _moments(pairs)
    gap = math.fsum(pair.x - pair.y for pair in pairs) / len(pairs)
    by_chance = m.xx + m.yy + gap * gap
    return None if by_chance < SAME else 2 * m.xy / by_chance


def alpha(units: Iterable[Sequence[float]]) -> float | None:
    """Return Krippendorff's alpha for numbers; None where nobody differs, or no unit was rated twice.

    Args:
        units: what the raters gave to each unit, in any order.
    """
    try:
        import krippendorff  # here: it loads numpy
    except ImportError as err:
        remedy = "install the extra: pip install 'sotopia-sdpo[judges]'"
        raise UserError(f"Krippendorff's alpha needs the package {err.name}; {remedy}") from err
    counts = [Counter(unit) for unit in units if len(unit) > 1]
    domain = sorted(set().union(*counts))
    if len(domain) < 2:
        return None
    table = [[count[value] for value in domain] for count in counts]
    found = krippendorff.alpha(value_counts=table, value_domain=domain, level_of_measurement="interval")
    return float(found)


def spread(groups: Iterable[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups, pooled; None where no group has two."""
    squares, degrees = 0.0, 0
    for group in groups:
        mean = math.fsum(group) / len(group)
        squares += math.fsum((value - mean) ** 2 for value in group)
        degrees += len(group) - 1
    return math.sqrt(squares / degrees) if degrees else None


def _varies(pairs: Sequence[Pair]) -> bool:
    if len(pairs) < 3:
        return False
    m = _moments(pairs)
    return min(m.xx, m.yy) >= SAME


def _moments(pairs: Sequence[Pair]) -> _Moments:
    n = len(pairs)
    x, y = (math.fsum(values) / n for values in ((p.x for p in pairs), (p.y for p in pairs)))
    dx, dy = [pair.x - x for pair in pairs], [pair.y - y for pair in pairs]
    products = [math.fsum(u * v for u, v in zip(a, b, strict=True)) / n for a, b in ((dx, dx), (dy, dy), (dx, dy))]
    return _Moments(dx, dy, *products)


def _around(value: float, pairs: Sequence[Pair], influences: Iterable[float]) -> Estimate:
    """Return a figure with the interval that the influences of its pairs give."""
    return clustered((pair.cluster, value + one) for pair, one in zip(pairs, influences, strict=True))
