"""Development scenarios: those on which hyperparameters are chosen, and nothing else is done.

Comes in: the stages of a world, and which of them are for development. Goes out: two split files, one without their
scenarios in the stages that the agent learns from, one in which they take the place of those of evaluation.
Invariant: no scenario of development is one of evaluation, or one that the agent is trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.world.cast import demo_splits
from sotopia_sdpo.world.combos import Splits, load_splits
from sotopia_sdpo.world.tasks import ALL_SPLIT, HARD_SPLIT, TASKS


LEARNING, DEVELOPMENT = "splits.json", "splits_dev.json"
EVALUATION = (ALL_SPLIT, HARD_SPLIT)


def split_files(base: Path | None, is_demo: bool, development: Sequence[str]) -> dict[str, str]:
    """Return both split files, by name.

    Args:
        base: the split file of the world; None: the demo's, or the published one.
        is_demo: whether it is the demo world.
        development: names of stages.

    Raises:
        UserError: if a stage is not there, is evaluated on, or leaves none to learn from.
    """
    found = separated(demo_splits() if is_demo and base is None else load_splits(base), development)
    return {name: json.dumps(splits, indent=1) for name, splits in zip((LEARNING, DEVELOPMENT), found, strict=True)}


def separated(splits: Splits, development: Sequence[str]) -> tuple[Splits, Splits]:
    """Return the stages without the scenarios of development, and those of development as what is evaluated on.

    Raises:
        UserError: if a stage is not there, is evaluated on, or leaves none to learn from.
    """
    if missing := [name for name in development if name not in splits]:
        raise UserError(f"DEV_SPLITS: the split file has no {missing[0]!r}; it has {', '.join(splits)}")
    chosen = list(dict.fromkeys(env for name in development for env in splits[name]))
    evaluated = {env for name in EVALUATION for env in splits.get(name, ())}
    if both := [env for env in chosen if env in evaluated]:
        raise UserError(f"DEV_SPLITS: scenario {both[0]} is evaluated on, so nothing may be chosen by it; name others")
    learning = {
        name: found if name in EVALUATION else [env for env in found if env not in chosen]
        for name, found in splits.items()
    }
    if not chosen or not any(learning.get(name) for name in TASKS["neg"].splits):
        raise UserError(
            f"DEV_SPLITS={' '.join(development)}: {len(chosen)} scenarios, which leave none of "
            f"{', '.join(TASKS['neg'].splits)} to learn from; name fewer stages"
        )
    return learning, dict.fromkeys(EVALUATION, chosen)
