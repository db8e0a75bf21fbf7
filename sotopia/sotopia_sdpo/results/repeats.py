"""What means hide: how often one run beats the other, and how surely each passes when it tries again.

Comes in: the scores of two runs, as lists of trials by what both have in common. Goes out: a win rate, and pass^k for
every k that both have trials for. Invariant: a combo counts once, however many trials it has.
"""

from collections.abc import Callable, Mapping, Sequence
from math import comb
from typing import NamedTuple

from sotopia_sdpo.results.scores import SOLVED, Score, clusters_of
from sotopia_sdpo.results.stats import Estimate, clustered, decimals, share


GOAL = "goal"
PASSING_GOAL = 8.0
"""A session with less is a negative by the published thresholds."""
Trials = Mapping[tuple[str, int], Sequence[Score]]
"""By combo and role."""


class Passing(NamedTuple):
    """What counts as a success."""

    name: str
    at_least: float

    def __str__(self) -> str:
        return f"{self.name} of at least {self.at_least:g}"


class Pass(NamedTuple):
    """pass^k of two runs, and the paired difference, second minus first."""

    k: int
    first: Estimate
    second: Estimate
    difference: Estimate


def main_score(scores: Sequence[Score]) -> str | None:
    """Return what runs are compared by: the goal, or the score of their environment; None if they have none alike."""
    names = [name for name in scores[0].values if all(name in score.values for score in scores)]
    return GOAL if GOAL in names else next(iter(names), None)


def passing(scores: Sequence[Score], name: str, at_least: float | None = None) -> Passing | None:
    """Return what counts as a success, by default a goal of 8 or a solved quest; None where nothing says it."""
    if at_least is not None:
        return Passing(name, at_least)
    if name == GOAL:
        return Passing(name, PASSING_GOAL)
    return Passing(SOLVED, 1) if all(SOLVED in score.values for score in scores) else None


def win_rate(first: Trials, second: Trials, name: str) -> Estimate:
    """Estimate how often the second run beats the first one on a score, in what both have; a tie is half a win.

    Of a combo with trials a and b it is the share of pairs (a, b) in which b is more, ties half: U / (m n) of Mann and
    Whitney (1947).
    """

    def won(key: tuple[str, int]) -> float:
        pairs = [(a.values[name], b.values[name]) for a in first[key] for b in second[key]]
        return sum((b > a) + (b == a) / 2 for a, b in pairs) / len(pairs)

    return share((_cluster(first)(key), won(key)) for key in first)


def pass_hats(first: Trials, second: Trials, success: Passing) -> list[Pass]:
    """Estimate pass^k for k from 1 to the number of trials that every combo has in both runs.

    pass^k is the chance that k trials of a combo all pass. Its unbiased estimate from c successes in n trials is
    C(c, k) / C(n, k) (Yao et al. 2024, tau-bench, arXiv 2406.12045), averaged over the combos.
    """
    most = min(len(trials) for run in (first, second) for trials in run.values())
    cluster = _cluster(first)
    found = []
    for k in range(1, most + 1):
        values = [{key: _pass_hat(trials, k, success) for key, trials in run.items()} for run in (first, second)]
        gaps = ((cluster(key), values[1][key] - values[0][key]) for key in first)
        one, other = (share((cluster(key), value) for key, value in run.items()) for run in values)
        found.append(Pass(k, one, other, clustered(gaps)))
    return found


def _pass_hat(trials: Sequence[Score], k: int, success: Passing) -> float:
    passed = sum(trial.values[success.name] >= success.at_least for trial in trials)
    return comb(passed, k) / comb(len(trials), k)


def _cluster(trials: Trials) -> Callable[[tuple[str, int]], str]:
    """Return what gives the cluster of a combo, as for the means."""
    cluster = clusters_of([each[0] for each in trials.values()])[1]
    return lambda key: cluster(trials[key][0])


class Repeats(NamedTuple):
    """Both figures of two runs."""

    name: str
    """What is won on."""
    wins: Estimate
    success: Passing | None
    passes: list[Pass]


def repeats(first: Trials, second: Trials, at_least: float | None = None) -> Repeats | None:
    """Estimate both; None where the runs have no score alike."""
    scores = [score for run in (first, second) for trials in run.values() for score in trials]
    name = main_score(scores)
    if name is None:
        return None
    success = passing(scores, name, at_least)
    passes = pass_hats(first, second, success) if success else []
    return Repeats(name, win_rate(first, second, name), success, passes)


def repeats_table(found: Repeats) -> list[str]:
    """Write both figures, a line for each k."""
    name, wins, success, passes = found
    lines = [f"  B wins on {name}, ties half: {decimals(wins.mean)} {wins.interval}"]
    if passes:
        heads = "".join(f"{side:>6} {'95 % interval':15}" for side in ("A", "B", "B - A"))
        lines.append(f"  {'pass^k':8}{heads}".rstrip())
    for one in passes:
        cells = [one.first, one.second, one.difference]
        signs = ("", "", "+")
        shown = "".join(f"{decimals(c.mean, s):>6} {c.interval:15}" for c, s in zip(cells, signs, strict=True))
        lines.append(f"  {f'pass^{one.k}':8}{shown}".rstrip())
    if passes:
        lines.append(f"  pass^k: the chance that k trials of a combo all have {success}")
    return lines
