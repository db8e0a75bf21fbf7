"""`sotopia compare RUN RUN`: two runs on the same combos, and the paired difference between them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.results.repeats import Repeats, repeats, repeats_table
from sotopia_sdpo.results.scores import ALL, HARD, Score, estimates_of, mean_of, scores_of
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.results.tables import simulation_note
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.run_names import tags_meant
from sotopia_sdpo.world.cast import hard_subset
from sotopia_sdpo.world.combos import load_splits


class Comparison(NamedTuple):
    """Two runs on the combos that both have."""

    subset: str
    first: dict[str, Estimate]
    second: dict[str, Estimate]
    difference: dict[str, Estimate]
    """Second minus first."""
    combos: int
    """How many they are."""
    repeats: Repeats | None
    """How often the second one is better, and how surely both pass."""


def compare(
    first: Sequence[Score], second: Sequence[Score], hard: Collection[str], at_least: float | None = None
) -> list[Comparison]:
    """Pair two runs by combo and role (by combo alone if one is self-chat) and estimate the difference.

    Args:
        first: its scores.
        second: those of the other run.
        hard: the scenarios of the hard subset.
        at_least: with which goal, or score of an environment, a trial passes; None for the usual one.
    """
    trials = by_combo(first, second)
    common = sorted(trials[0].keys() & trials[1].keys())
    found = []
    for subset in (ALL, HARD):
        keys = [key for key in common if subset == ALL or trials[0][key][0].environment in hard]
        if not keys or (subset == HARD and len(keys) == len(common)):
            continue
        one, other = ({key: run[key] for key in keys} for run in trials)
        sides = [list(map(mean_of, run.values())) for run in (one, other)]
        gaps = [
            # In the order of the scores, which a set would not keep.
            b._replace(values={name: b.values[name] - a.values[name] for name in a.values if name in b.values})
            for a, b in zip(*sides, strict=True)
        ]
        means = estimates_of(sides[0]), estimates_of(sides[1]), estimates_of(gaps)
        found.append(Comparison(subset, *means, len(keys), repeats(one, other, at_least)))
    return found


def by_combo(*runs: Sequence[Score]) -> list[dict[tuple[str, int], list[Score]]]:
    """Return the trials of some runs by combo and role; by combo alone if one of them is self-chat."""
    by_role = not any(score.is_self_chat for run in runs for score in run)
    found = []
    for run in runs:
        groups: dict[tuple[str, int], list[Score]] = defaultdict(list)
        for score in run:
            groups[score.combo, score.position if by_role else 0].append(score)
        found.append(dict(groups))
    return found


def comparison_table(names: tuple[str, str], comparison: Comparison) -> str:
    """Write a comparison: both means and the paired difference."""
    lines = [
        f"{comparison.subset}: {comparison.combos} combos that both have; difference = B - A, paired",
        f"  A = {names[0]}",
        f"  B = {names[1]}",
        f"  {'':32}{'A':>8}{'B':>8}{'B - A':>9}  95 % interval",
    ]
    for name, gap in comparison.difference.items():
        means = "".join(f"{decimals(side[name].mean):>8}" for side in (comparison.first, comparison.second))
        lines.append(f"  {name:32}{means}{decimals(gap.mean, '+'):>9}  {gap.interval}")
    lines += repeats_table(comparison.repeats) if comparison.repeats else []
    return "\n".join(lines)


def compare_runs(
    first: str, second: str, db: str | None, data_dir: Path | None, splits: Path | None, at_least: float | None = None
) -> int:
    """Print the comparison over all common combos, and over the hard ones."""
    with open_store(database_url(db, data_dir), create=False) as store:
        known = store.counts().episodes
        sides = [scores_of(store, tags_meant([name], known, store.url)) for name in (first, second)]
        for name, scores in zip((first, second), sides, strict=True):
            if not scores:
                raise UserError(f"{store.url}: no scored episode of {name}; `sotopia runs` shows the runs")
    found = compare(sides[0], sides[1], hard_subset(load_splits(splits)), at_least)
    if not found:
        raise UserError(f"{first} and {second} have no combo in common, so there is nothing to pair")
    for comparison in found:
        print(comparison_table((first, second), comparison))
    for line in simulation_note(sides[0] + sides[1]):
        print(line)
    return EXIT_DONE
