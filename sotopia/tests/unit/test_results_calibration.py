"""Corrected means by hand, against plain formulas, and how often their intervals cover a truth that is known."""

import random
import sys
from pathlib import Path
from statistics import fmean, variance

import pytest
from small_world import finished, make_run, small_store

from sotopia_sdpo.results.calibration import FEWEST_RATED, Point, calibration_table, corrected
from sotopia_sdpo.results.people import People
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.world.combos import Combo


sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import calibration as simulation  # noqa: E402 (a script, found only now)


def drawn(rated: int, everyone: int, seed: int = 0) -> list[Point]:
    """Draw episodes, each a cluster of its own, with a judge who gives a point too much."""
    draw = random.Random(seed)
    found = []
    for number in range(everyone):
        truth = draw.gauss(5, 2)
        people = truth + draw.gauss(0, 1) if number < rated else None
        found.append(Point(str(number), truth + 1 + draw.gauss(0, 1), people))
    return found


def test_a_judge_who_is_always_one_too_high() -> None:
    """Its mean of all, 6.5, less one; nothing is left to vary but the mean of all."""
    points = [Point(str(i), float(i % 12) + 1, float(i % 12) if i < 24 else None) for i in range(48)]
    found = corrected(points)
    assert found.naive.mean == 6.5 and found.power == pytest.approx(1.0)
    assert found.powered.mean == found.regression.mean == pytest.approx(5.5)
    # As wide as the judge's own, but for the degrees of freedom: 22 of 24 clusters, 47 of 48.
    widths = [one.high - one.low for one in (found.regression, found.naive)]
    assert widths[0] / widths[1] == pytest.approx(2.0739 * (24 / 22) ** 0.5 / (2.0117 * (48 / 47) ** 0.5), abs=1e-3)


def test_of_single_episodes_it_is_the_published_formula() -> None:
    """PPI++ with the optimal power of Angelopoulos, Duchi and Zrnic, section 6, on the rated and the others apart."""
    points = drawn(200, 1000)
    rated = [(p.people, p.judge) for p in points if p.people is not None]
    others = [p.judge for p in points if p.people is None]
    n, m = len(rated), len(others)
    people, judge = [y for y, _ in rated], [f for _, f in rated]
    covariance = sum((y - fmean(people)) * (f - fmean(judge)) for y, f in rated) / n
    power = covariance / ((1 + n / m) * variance([*judge, *others]))
    value = power * fmean(others) + fmean(y - power * f for y, f in rated)
    error = (variance([y - power * f for y, f in rated]) / n + power**2 * variance(others) / m) ** 0.5
    found = corrected(points)
    for estimate in (found.powered, found.regression):
        assert estimate.mean == pytest.approx(value, abs=0.02)
        assert (estimate.high - estimate.low) / 2 == pytest.approx(1.97 * error, rel=0.05)
    alone = 1.97 * (variance(people) / n) ** 0.5
    assert (found.powered.high - found.powered.low) / 2 < 0.8 * alone


def test_a_judge_who_knows_nothing_has_no_weight() -> None:
    draw = random.Random(3)
    points = [Point(p.cluster, draw.gauss(5, 2), p.people) for p in drawn(100, 400)]
    found, people = corrected(points), [p.people for p in points if p.people is not None]
    assert found.power < 0.25 and found.powered.mean == pytest.approx(fmean(people), abs=0.15)


def test_everything_rated_is_the_mean_of_the_people() -> None:
    points = drawn(50, 50)
    found, mean = corrected(points), fmean(p.people for p in points if p.people is not None)
    assert found.powered.mean == pytest.approx(mean) and found.regression.mean == pytest.approx(mean)


def test_intervals_cover_the_truth() -> None:
    """Of 300 judges 95 % and three standard errors; the judges' own intervals mostly miss it."""
    alone, powered, regression = simulation.coverage(300, seed=5, scenarios=40, episodes=4, rated=50)
    assert alone.covered < 0.4 < 0.912 < min(powered.covered, regression.covered)
    assert max(powered.covered, regression.covered) < 0.988 and abs(powered.error) < 0.1 < abs(alone.error)


def rated_run(folder: Path, rated: int) -> tuple[object, People]:
    """Store a run of 16 episodes whose judge gives a point too much, and have people rate some."""
    store = small_store(folder)
    lines = ["rater,pk,goal_1,goal_2"]
    items = items_of_combos(make_run(tag="t"), [Combo(f"e{i}", ("p0", "p1")) for i in range(16)])
    for number, item in enumerate(items):
        episode = finished(item, goal=float(number % 8) + 1)
        store.put_episode(episode)
        if number < rated:
            lines.append(f"r0,{episode.pk},{number % 8},{number % 8}")
    (folder / "people.csv").write_text("\n".join(lines))
    return store, People([folder / "people.csv"])


def test_the_table_of_a_run(tmp_path: Path) -> None:
    """Mean of the judge 4.5, corrected 3.5."""
    store, people = rated_run(tmp_path, FEWEST_RATED)
    lines = calibration_table(store, ["t"], people).splitlines()  # type: ignore[arg-type]
    assert len(lines) == 2 and lines[1].split()[:2] == ["goal", "4.50"] and lines[1].split()[-1] == "10"
    assert lines[1].count("  3.50  [") == 2


def test_too_few_ratings_are_told(tmp_path: Path) -> None:
    store, people = rated_run(tmp_path, FEWEST_RATED - 1)
    told = "  not corrected: people rated 9 of these episodes, it takes 10, drawn at random"
    assert calibration_table(store, ["t"], people) == told  # type: ignore[arg-type]
