"""`sotopia compare TAG TAG`: two runs on the same combos, and the paired difference between them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.results.scores import ALL, HARD, Score, estimates_of, scores_of
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.results.tables import simulation_note
from sotopia_sdpo.store import database_url, open_store
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


def compare(first: Sequence[Score], second: Sequence[Score], hard: Collection[str]) -> list[Comparison]:
    """Pair two runs by combo and role (by combo alone if one is self-chat) and estimate the difference."""
    by_role = not any(score.is_self_chat for score in (*first, *second))
    pooled = [_pooled(scores, by_role) for scores in (first, second)]
    common = sorted(pooled[0].keys() & pooled[1].keys())
    found = []
    for subset in (ALL, HARD):
        keys = [key for key in common if subset == ALL or pooled[0][key].environment in hard]
        if not keys or (subset == HARD and len(keys) == len(common)):
            continue
        sides = [[scores[key] for key in keys] for scores in pooled]
        gaps = [
            b._replace(values={name: b.values[name] - a.values[name] for name in a.values.keys() & b.values.keys()})
            for a, b in zip(*sides, strict=True)
        ]
        found.append(Comparison(subset, estimates_of(sides[0]), estimates_of(sides[1]), estimates_of(gaps), len(keys)))
    return found


def _pooled(scores: Sequence[Score], by_role: bool) -> dict[tuple[str, int], Score]:
    """Average the trials (and roles) of a combo."""
    groups: dict[tuple[str, int], list[Score]] = defaultdict(list)
    for score in scores:
        groups[score.combo, score.position if by_role else 0].append(score)
    return {
        key: group[0]._replace(
            values={name: sum(s.values[name] for s in group) / len(group) for name in group[0].values}
        )
        for key, group in groups.items()
    }


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
    return "\n".join(lines)


def compare_tags(first: str, second: str, db: str | None, data_dir: Path | None, splits: Path | None) -> int:
    """Print the comparison over all common combos, and over the hard ones."""
    with open_store(database_url(db, data_dir), create=False) as store:
        sides = [scores_of(store, [tag]) for tag in (first, second)]
        for tag, scores in zip((first, second), sides, strict=True):
            if not scores:
                raise UserError(f"{store.url}: no scored episode with tag {tag}; `sotopia db info` shows the tags")
    found = compare(sides[0], sides[1], hard_subset(load_splits(splits)))
    if not found:
        raise UserError(f"{first} and {second} have no combo in common, so there is nothing to pair")
    for comparison in found:
        print(comparison_table((first, second), comparison))
    for line in simulation_note(sides[0] + sides[1]):
        print(line)
    return EXIT_DONE
