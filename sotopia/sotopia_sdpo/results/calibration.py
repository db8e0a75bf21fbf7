"""Correct a run's means by people's ratings of a random part of its episodes, with intervals that cover.

Comes in: what the judge gave to every episode, and what people gave to some of them. Goes out: two estimates of what
people would give on the mean: prediction-powered inference with power tuning (PPI++: Angelopoulos, Duchi and Zrnic,
arXiv 2311.01453), and the regression estimator of survey sampling (Särndal, Swensson and Wretman, Model Assisted
Survey Sampling, 1992, section 6.4). Both are the people's mean, moved by how the judge's mean of all episodes differs
from its mean of the rated ones; they choose the weight of that difference in two ways.
Invariant: the interval is that of the clusters, and those of them that people rated decide its degrees of freedom.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from sotopia_sdpo.results.people import People, Side
from sotopia_sdpo.results.scores import SHOWN, score_of
from sotopia_sdpo.results.sessions import Sessions
from sotopia_sdpo.results.stats import CONFIDENCE, Estimate, clustered, decimals, t_quantile
from sotopia_sdpo.store.base import Store


FEWEST_RATED = 10


class Point(NamedTuple):
    """One episode."""

    cluster: str
    judge: float
    people: float | None = None
    """None where they did not rate it."""


class Corrected(NamedTuple):
    """What people would give on the mean."""

    naive: Estimate
    """The judge's own mean."""
    powered: Estimate
    """Prediction-powered."""
    power: float
    """The weight of the judge in it, from 0 to 1."""
    regression: Estimate


def corrected(points: Sequence[Point]) -> Corrected:
    """Return the judge's mean and its corrections; people have rated at least one of the episodes."""
    rated = [point for point in points if point.people is not None]
    power = min(1.0, max(0.0, _tuned(points)))
    naive = clustered((point.cluster, point.judge) for point in points)
    return Corrected(naive, _estimate(points, power), power, _estimate(points, _least_squares(rated)))


def _estimate(points: Sequence[Point], weight: float) -> Estimate:
    """Return the people's mean plus the weighted difference of the judge's means of all and of the rated."""
    everyone, some, people = _means(points)
    value = people + weight * (everyone - some)
    rated = sum(point.people is not None for point in points)
    influences: dict[str, float] = defaultdict(float)
    for point in points:
        influences[point.cluster] += weight * (point.judge - everyone) / len(points)
        if point.people is not None:
            influences[point.cluster] += (point.people - people - weight * (point.judge - some)) / rated
    informed = len({point.cluster for point in points if point.people is not None})
    degrees = informed - 2  # one for the mean, and one for the weight, which the same ratings gave
    if degrees < 1:
        return Estimate(value, math.nan, math.nan, rated, informed)
    variance = math.fsum(one * one for one in influences.values()) * informed / degrees
    margin = t_quantile((1 + CONFIDENCE) / 2, degrees) * math.sqrt(variance)
    return Estimate(value, value - margin, value + margin, rated, informed)


def _tuned(points: Sequence[Point]) -> float:
    """Return the weight that makes the variance of the clusters' influences least."""
    everyone, some, people = _means(points)
    rated = sum(point.people is not None for point in points)
    of_people: dict[str, float] = defaultdict(float)
    of_judge: dict[str, float] = defaultdict(float)
    for point in points:
        of_judge[point.cluster] += (point.judge - everyone) / len(points)
        if point.people is not None:
            of_people[point.cluster] += (point.people - people) / rated
            of_judge[point.cluster] -= (point.judge - some) / rated
    square = math.fsum(one * one for one in of_judge.values())
    return -math.fsum(of_people[name] * one for name, one in of_judge.items()) / square if square else 0.0


def _least_squares(rated: Sequence[Point]) -> float:
    """Return the slope of people's ratings on the judge's scores."""
    _, judge, people = _means(rated)
    square = math.fsum((point.judge - judge) ** 2 for point in rated)
    product = math.fsum((point.judge - judge) * ((point.people or 0.0) - people) for point in rated)
    return product / square if square else 0.0


def _means(points: Sequence[Point]) -> tuple[float, float, float]:
    """Return the judge's mean of all, its mean of the rated, and the people's."""
    rated = [(point.judge, point.people) for point in points if point.people is not None]
    judge, people = zip(*rated, strict=True)
    return fmean(point.judge for point in points), fmean(judge), fmean(people)


def calibration_table(store: Store, tags: Sequence[str], people: People) -> str:
    """Write the means of a run as the judge gives them and corrected, or that too few of its episodes are rated."""
    points = points_of(store, tags, people)
    head = f"{'judge':>8}  {'95 % interval':16}{'PPI++':>8}  {'95 % interval':16}{'power':>6}{'regression':>12}"
    lines = [f"  {'corrected by people':32}{head}  {'95 % interval':16}{'rated':>6}"]
    most = 0
    for name, of_dimension in points.items():
        rated = sum(point.people is not None for point in of_dimension)
        most = max(most, rated)
        if rated >= FEWEST_RATED:
            found = corrected(of_dimension)
            cells = (
                f"{_cell(found.naive)}{_cell(found.powered)}{decimals(found.power):>6}    {_cell(found.regression)}"
            )
            lines.append(f"  {name:32}{cells}{rated:>6}")
    if len(lines) > 1:
        return "\n".join(lines)
    return f"  not corrected: people rated {most} of these episodes, it takes {FEWEST_RATED}, drawn at random"


def points_of(store: Store, tags: Sequence[str], people: People) -> dict[str, list[Point]]:
    """Return the scored episodes of a run by dimension, each with what people gave to the same sides."""
    sessions = Sessions({side.session for side in people.ratings})
    sessions.learn_from(store)
    means = {name: people.means(name) for name in SHOWN}
    points: dict[str, list[Point]] = {name: [] for name in SHOWN}
    for tag in tags:
        for episode in store.episodes(tag, "scored"):
            score, session = score_of(episode), sessions.name_of(episode)
            for name in means.keys() & score.values.keys():
                given = [means[name].get(Side(session, position)) for position in score.positions]
                known = [one for one in given if one is not None]
                truth = fmean(known) if len(known) == len(given) else None
                points[name].append(Point(score.environment, score.values[name], truth))
    return points


def _cell(found: Estimate) -> str:
    return f"{decimals(found.mean):>8}  {found.interval:16}"
