"""Count how often the intervals of a run's mean cover the truth, over simulated judges whose truth is known.

Every judge is drawn anew: how generous it is, how far it compresses the scale, how it likes long dialogues, how noisy
it is. It scores a run of scenarios with several episodes each; people rate a random part of the episodes. What people
would give is 10 times a probability that is drawn for scenario and episode, so its mean is known exactly. Prints the
coverage of the judge's own interval and of the corrected ones.

    python benchmarks/calibration.py --judges 1000 --seed 0
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sotopia_sdpo.results.calibration import Point, corrected
from sotopia_sdpo.results.stats import Estimate


TOP = 10
"""The best score of the goal."""
MEAN = 0.65
"""Of what people would give, as a share of the top score."""
SCENARIOS_ALIKE, EPISODES_ALIKE = 6.0, 5.0
"""The sums of the parameters of the two beta distributions; the larger, the less the probabilities differ."""
RATERS = 2


class Coverage(NamedTuple):
    """How the intervals of one way to estimate did."""

    name: str
    covered: float
    """Share of intervals that hold the truth."""
    half_width: float
    """On the mean."""
    error: float
    """Mean of estimate minus truth."""


class Judge(NamedTuple):
    """How a simulated judge departs from people."""

    bias: float
    slope: float
    likes_length: float
    noise: float

    @staticmethod
    def drawn(draw: random.Random) -> "Judge":
        """Draw one."""
        return Judge(draw.uniform(-1, 3), draw.uniform(0.4, 1.2), draw.uniform(-1, 1), draw.uniform(0.5, 2.5))

    def score(self, truth: float, length: float, draw: random.Random) -> float:
        """Score an episode as judges do: a whole number inside the range."""
        middle = MEAN * TOP
        found = middle + self.bias + self.slope * (truth - middle) + self.likes_length * length
        return float(min(TOP, max(0, round(found + draw.gauss(0, self.noise)))))


def run_of(draw: random.Random, scenarios: int, episodes: int, rated: int) -> list[Point]:
    """Draw a judge, and a run that it scores and people rate a part of."""
    judge = Judge.drawn(draw)
    is_rated = set(draw.sample(range(scenarios * episodes), rated))
    return list(_points(draw, judge, scenarios, episodes, is_rated))


def _points(draw: random.Random, judge: Judge, scenarios: int, episodes: int, is_rated: set[int]) -> Iterator[Point]:
    for number in range(scenarios * episodes):
        if number % episodes == 0:
            scenario = _beta(draw, MEAN, SCENARIOS_ALIKE)
        share = _beta(draw, scenario, EPISODES_ALIKE)
        ratings = [sum(draw.random() < share for _ in range(TOP)) for _ in range(RATERS)]
        people = sum(ratings) / RATERS if number in is_rated else None
        yield Point(str(number // episodes), judge.score(TOP * share, draw.gauss(0, 1), draw), people)


def _beta(draw: random.Random, mean: float, alike: float) -> float:
    return draw.betavariate(max(mean, 1e-6) * alike, max(1 - mean, 1e-6) * alike)


def coverage(judges: int, seed: int, scenarios: int, episodes: int, rated: int) -> list[Coverage]:
    """Simulate judges and return how each way to estimate did."""
    draw = random.Random(seed)
    found = [corrected(run_of(draw, scenarios, episodes, rated)) for _ in range(judges)]
    ways = (
        ("judge alone", [one.naive for one in found]),
        ("PPI++", [one.powered for one in found]),
        ("regression", [one.regression for one in found]),
    )
    return [_coverage(name, estimates) for name, estimates in ways]


def _coverage(name: str, found: Sequence[Estimate]) -> Coverage:
    truth, n = MEAN * TOP, len(found)
    covered = sum(one.low <= truth <= one.high for one in found) / n
    half = sum((one.high - one.low) / 2 for one in found) / n
    return Coverage(name, covered, half, sum(one.mean - truth for one in found) / n)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judges", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", type=int, default=70)
    parser.add_argument("--episodes", type=int, default=4, help="of each scenario")
    parser.add_argument("--rated", type=int, nargs="+", default=[30, 60, 120], help="episodes that people rate")
    typed = parser.parse_args()
    size = typed.scenarios * typed.episodes
    print(f"{typed.judges} judges, {size} episodes in {typed.scenarios} scenarios, seed {typed.seed}; 95 % intervals")
    print(f"{'rated':>6}  {'':12}{'cover':>8}{'half-width':>12}{'mean error':>12}")
    for rated in typed.rated:
        for one in coverage(typed.judges, typed.seed, typed.scenarios, typed.episodes, rated):
            print(f"{rated:6}  {one.name:12}{one.covered:8.1%}{one.half_width:12.2f}{one.error:+12.2f}")


if __name__ == "__main__":
    main()
