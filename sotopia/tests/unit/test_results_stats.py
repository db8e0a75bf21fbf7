"""Intervals against figures from tables and worked out by hand."""

import math

import pytest

from sotopia_sdpo.results.stats import clustered, decimals, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (13, 2.1604), (89, 1.9870), (1000, 1.9623)]
)
def test_students_t(degrees: int, expected: float) -> None:
    """The two-sided 95 % values of any table."""
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=1e-4)


def test_an_interval_by_hand() -> None:
    """Scenarios a: 1, 3 and b: 5, 7; mean 4, residual sums -4 and 4.

    Variance (16 + 16) / 4^2 * 2 / 1 = 4, standard error 2, t with 1 degree 12.7062: 4 +- 25.4124.
    """
    found = clustered([("a", 1.0), ("a", 3.0), ("b", 5.0), ("b", 7.0)])
    assert (found.mean, found.values, found.clusters) == (4.0, 4, 2)
    assert found.low == pytest.approx(4 - 25.4124, abs=1e-3) and found.high == pytest.approx(4 + 25.4124, abs=1e-3)


def test_without_clusters_it_is_the_usual_interval() -> None:
    """One value a scenario, 1 to 5: standard error sqrt(2.5 / 5), t with 4 degrees 2.7764, margin 1.9632."""
    found = clustered([(str(i), float(i)) for i in range(1, 6)])
    assert found.high - found.mean == pytest.approx(2.7764 * math.sqrt(0.5), abs=1e-3)


def test_one_scenario_has_no_interval() -> None:
    found = clustered([("a", 1.0), ("a", 2.0)])
    assert math.isnan(found.low) and found.interval == "-" and found.record()["low"] is None


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        clustered([])


def test_zero_has_no_sign() -> None:
    assert decimals(-0.001) == "0.00" and decimals(0.0, "+") == "+0.00" and decimals(-1.0, "+") == "-1.00"
