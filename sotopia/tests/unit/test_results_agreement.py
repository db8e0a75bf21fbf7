"""Agreement against sums by hand, against slow and obvious computations, and its intervals against resampling."""

import math
import random
from collections import Counter
from itertools import product
from statistics import correlation as plain_correlation
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.results.agreement import Pair, alpha, correlation, long_against_short, slope, spread, weighted_kappa
from sotopia_sdpo.results.stats import Estimate


def drawn(clusters: int, seed: int = 0) -> list[Pair]:
    """Draw two sides a session, which have something in common."""
    draw = random.Random(seed)
    pairs = []
    for number in range(clusters):
        common = draw.gauss(0, 1)
        for _ in range(2):
            x = common + draw.gauss(0, 1)
            pairs.append(Pair(str(number), x, 0.5 * x + common + draw.gauss(0, 1)))
    return pairs


def test_r_is_pearsons() -> None:
    pairs = drawn(20)
    found = correlation(pairs)
    assert found is not None and (found.values, found.clusters) == (40, 20)
    assert found.mean == pytest.approx(plain_correlation([p.x for p in pairs], [p.y for p in pairs]))


@pytest.mark.parametrize("figure", [correlation, slope])
def test_an_interval_is_as_wide_as_resampled_clusters_make_it(figure: object) -> None:
    """The half-width against 2 standard deviations of 400 bootstrap samples of whole sessions."""
    pairs, draw = drawn(120), random.Random(1)
    by_cluster = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    values = []
    for _ in range(400):
        sample = [pair for number in range(120) for pair in draw.choice(by_cluster)]
        values.append(figure(sample).mean)  # type: ignore[operator]
    found: Estimate = figure(pairs)  # type: ignore[operator]
    assert (found.high - found.low) / 2 == pytest.approx(1.98 * stdev(values), rel=0.15)
    # Were the two sides of a session independent, it would be narrower.
    apart = figure([pair._replace(cluster=str(number)) for number, pair in enumerate(pairs)])  # type: ignore[operator]
    assert apart.high - apart.low < found.high - found.low


def test_the_slope_of_a_0_1_is_the_difference_of_means() -> None:
    found = slope([Pair("a", 0, 1.0), Pair("b", 0, 3.0), Pair("c", 1, 7.0), Pair("d", 1, 9.0)])
    assert found is not None and found.mean == pytest.approx(6.0)


def test_long_against_short_is_in_points() -> None:
    """Turns 10 and 20 have a standard deviation of 5, so the two are two of them apart."""
    found = long_against_short([Pair("a", 10, 1.0), Pair("b", 20, 3.0), Pair("c", 10, 2.0), Pair("d", 20, 4.0)])
    assert found is not None and found.mean == pytest.approx(2.0)


def test_what_does_not_vary_has_no_figure() -> None:
    constant = [Pair(str(i), float(i), 3.0) for i in range(5)]
    assert correlation(constant) is None and long_against_short([Pair("a", 1.0, 1.0)] * 5) is None
    assert correlation([]) is None and slope([]) is None and weighted_kappa([]) is None
    assert alpha([[3, 3], [3, 3]]) is None and alpha([[1], [2]]) is None
    perfect = correlation([Pair(str(i), float(i), 2.0 * i) for i in range(5)])
    assert perfect is not None and (perfect.mean, perfect.low) == pytest.approx((1.0, 1.0))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_kappa_is_that_of_the_table(ratings: list[tuple[int, int]]) -> None:
    """The usual way: a table of categories, with weights (i - j)^2."""
    seen, n = Counter(ratings), len(ratings)
    first, second = Counter(x for x, _ in ratings), Counter(y for _, y in ratings)
    cells = list(product(range(5), repeat=2))
    observed = sum((i - j) ** 2 * seen[i, j] / n for i, j in cells)
    by_chance = sum((i - j) ** 2 * first[i] * second[j] / n**2 for i, j in cells)
    found = weighted_kappa([Pair("", x, y) for x, y in ratings])
    assert found == (pytest.approx(1 - observed / by_chance) if by_chance else None)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8))
def test_alpha_is_observed_over_expected_disagreement(units: list[list[int]]) -> None:
    """Over all ordered pairs within a unit, and over all pairs of values that are in a unit of two at least."""
    rated = [unit for unit in units if len(unit) > 1]
    values = [value for unit in rated for value in unit]
    n = len(values)
    found = alpha(units)
    if len(set(values)) < 2:
        assert found is None
        return
    observed = sum(sum((a - b) ** 2 for a in unit for b in unit) / (len(unit) - 1) for unit in rated) / n
    expected = sum((a - b) ** 2 for a in values for b in values) / (n * (n - 1))
    assert found == pytest.approx(1 - observed / expected)


def test_the_spread_of_repeats_is_pooled() -> None:
    """Groups 1, 3 and 2, 2, 5 and 9: squares 2 + 6 over 1 + 2 degrees; one alone says nothing."""
    assert spread([[1, 3], [2, 2, 5], [9]]) == pytest.approx(math.sqrt(8 / 3))
    assert spread([[1], [2]]) is None
