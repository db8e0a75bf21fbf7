"""Several arms on the same scenarios: what each is given, and how any two differ, paired.

Comes in: arms, each with the scores of its runs. Goes out: their means, and the differences of every two, with
intervals clustered by scenario and by run (see `crossed`) and p-values that hold for all pairs together (see `holm`).
Invariant: two arms are compared on what both were scored on: the same combo, role and run. Where they have no run in
common, each is the mean of its runs first, which leaves the scenarios alone to cluster by.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.crossed import Crossed, Value, crossed
from sotopia_sdpo.results.holm import holm
from sotopia_sdpo.results.scores import Score, clusters_of, estimates_of, mean_of


SIGNIFICANT = 0.05
LEAST_SCORED = 0.9
"""An agent that forgot the form of its answers fails in most episodes, and what is left is no mean of all."""
MOST_SHOWN = 2
"""How many scores a table shows: the goal and the relationship, or what an environment gives."""


class ArmRun(NamedTuple):
    """What one agent was given in one evaluation: of one training of the method, where it is trained."""

    name: str
    """Of the seed and the agent; arms are paired by it."""
    scores: list[Score]


class Arm(NamedTuple):
    """A method."""

    name: str
    runs: list[ArmRun]
    unscored: int = 0
    """Episodes that came to no score."""

    @property
    def scores(self) -> list[Score]:
        """All scores of its runs."""
        return [score for run in self.runs for score in run.scores]

    @property
    def is_short(self) -> bool:
        """Whether too few of its episodes came to a score to stand for all."""
        return len(self.scores) < LEAST_SCORED * (len(self.scores) + self.unscored)

    def by_run(self, name: str) -> list[float]:
        """Return the mean of a score in every run."""
        found = [[score.values[name] for score in run.scores if name in score.values] for run in self.runs]
        return [sum(values) / len(values) for values in found if values]


class Gap(NamedTuple):
    """By how much one arm is above another, paired."""

    found: Crossed
    p_holm: float
    """Corrected over all pairs of arms, for this score."""

    @property
    def mark(self) -> str:
        """A star where it is more than chance gives, all pairs taken together."""
        return "*" if self.p_holm < SIGNIFICANT else ""


class League(NamedTuple):
    """Arms, side by side."""

    arms: list[Arm]
    means: dict[str, dict[str, Crossed]]
    """By arm and score."""
    gaps: dict[tuple[str, str], dict[str, Gap]]
    """By two arms, second minus first, and score; none of two that have no combo in common."""

    @property
    def names(self) -> list[str]:
        """The scores that any arm has, the most important first."""
        return list(dict.fromkeys(name for found in self.means.values() for name in found))

    @property
    def shown(self) -> list[str]:
        """The scores that tables show."""
        return self.names[:MOST_SHOWN]

    def gain(self, arm: Arm) -> Mapping[str, Gap]:
        """Return what an arm is above the first; nothing for that one."""
        return self.gaps.get((self.arms[0].name, arm.name), {})


def league_of(arms: Sequence[Arm]) -> League:
    """Compare arms; one without scores has no means and no gaps.

    Raises:
        UserError: if none has scores.
    """
    means = {arm.name: _means(arm) for arm in arms}
    if not any(means.values()):
        raise UserError(
            f"no episode of {', '.join(means)} came to a score, so nothing is compared; `sotopia runs` shows the runs"
        )
    found = {(a.name, b.name): _differences(a, b) for a, b in combinations(arms, 2)}
    names = dict.fromkeys(name for differences in found.values() for name in differences)
    corrected = {name: _corrected(found, name) for name in names}
    gaps = {
        pair: {name: Gap(one, corrected[name][pair]) for name, one in differences.items()}
        for pair, differences in found.items()
        if differences
    }
    return League(list(arms), means, gaps)


def _corrected(found: Mapping[tuple[str, str], Mapping[str, Crossed]], name: str) -> dict[tuple[str, str], float]:
    """Return the p-values of a score, corrected over all pairs."""
    pairs = [pair for pair, differences in found.items() if name in differences]
    return dict(zip(pairs, holm([found[pair][name].p for pair in pairs]), strict=True))


def _means(arm: Arm) -> dict[str, Crossed]:
    cluster = clusters_of(arm.scores)[1]
    return {
        name: crossed(
            Value(cluster(score), run.name, score.values[name])
            for run in arm.runs
            for score in run.scores
            if name in score.values
        )
        for name in estimates_of(arm.scores)
    }


def _differences(first: Arm, second: Arm) -> dict[str, Crossed]:
    """Estimate second minus first for every score; nothing where they have no combo in common."""
    by_role = not any(score.is_self_chat for arm in (first, second) for score in arm.scores)
    is_paired = bool({run.name for run in first.runs} & {run.name for run in second.runs})
    sides = [_by_place(arm, by_role, is_paired) for arm in (first, second)]
    common = [place for place in sides[0] if place in sides[1]]
    if not common:
        return {}
    cluster = clusters_of([sides[0][place] for place in common])[1]
    values: dict[str, list[Value]] = defaultdict(list)
    for place in common:
        before, after = (side[place] for side in sides)
        for name in before.values:
            if name in after.values:
                gap = after.values[name] - before.values[name]
                values[name].append(Value(cluster(before), place[0], gap))
    order = estimates_of(first.scores)
    return {name: crossed(values[name]) for name in order if name in values}


def _by_place(arm: Arm, by_role: bool, is_paired: bool) -> dict[tuple[str, str, int], Score]:
    """Average what an arm was given in the same place: run, combo and role."""
    groups: dict[tuple[str, str, int], list[Score]] = defaultdict(list)
    for run in arm.runs:
        for score in run.scores:
            groups[run.name if is_paired else "", score.combo, score.position if by_role else 0].append(score)
    return {place: mean_of(scores) for place, scores in groups.items()}
