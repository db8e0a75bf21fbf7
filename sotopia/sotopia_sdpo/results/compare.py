"""`sotopia compare TAG TAG`: two runs on the same combos, and the paired difference between them."""

from pathlib import Path

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.results.scores import compare, comparison_table, scores_of, simulation_note
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.world.cast import hard_subset
from sotopia_sdpo.world.combos import load_splits


def compare_tags(first: str, second: str, db: str | None, data_dir: Path | None, splits: Path | None) -> int:
    """Print the comparison over all common combos, and over the hard ones."""
    with open_store(database_url(db, data_dir), create=False) as store:
        sides = [scores_of(store, [tag]) for tag in (first, second)]
        for tag, scores in zip((first, second), sides, strict=True):
            if not scores:
                raise UserError(f"{store.url}: no scored episode with tag {tag}; `sotopia db info` shows the tags")
    found = compare(*sides, hard_subset(load_splits(splits)))
    if not found:
        raise UserError(f"{first} and {second} have no combo in common, so there is nothing to pair")
    for comparison in found:
        print(comparison_table((first, second), comparison))
    print("\n".join(simulation_note(sides[0] + sides[1])), end="\n" if simulation_note(sides[0] + sides[1]) else "")
    return EXIT_DONE
