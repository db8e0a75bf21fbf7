"""Choose the scenario-and-characters combinations that a task runs on.

Comes in: a store, a split file, the task. Goes out: combos in the order they are run: the first one of every
scenario, then the second ones, so that a limit cuts evenly.
Invariant: the choice depends on the seed, the split file and the stored combos, not on their order in the store.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.tasks import HARD_SPLIT, Task


SPLITS_FILE = "published.json"
ABOUT = "about"

Splits = dict[str, list[str]]


class Combo(NamedTuple):
    """A scenario and the two characters who meet in it."""

    environment: str
    agents: tuple[str, str]


class Choice(NamedTuple):
    """What a task runs on, and what it should run on but cannot."""

    combos: list[Combo]
    scenarios: int
    missing: int
    """Scenarios of the split that have no combo in the store."""


def load_splits(path: str | Path | None = None) -> Splits:
    """Read a split file, by default the published ids.

    Raises:
        UserError: if it cannot be read, or does not map stages to lists of scenario ids.
    """
    name = str(path or SPLITS_FILE)
    source = Path(path) if path else files("sotopia_sdpo").joinpath("world", "splits", SPLITS_FILE)
    try:
        found = json.loads(source.read_text("utf-8"))
    except OSError as err:
        raise UserError(f"{name}: cannot be read ({err.strerror}); --splits takes a JSON file") from err
    except (ValueError, RecursionError) as err:
        raise UserError(f"{name}: cannot be read as JSON ({err}); give a file like {{'SFT-round-1': [ids]}}") from err
    if not isinstance(found, dict):
        raise UserError(f"{name}: expected an object of stages, found a {type(found).__name__}")
    found.pop(ABOUT, None)
    for stage, ids in found.items():
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise UserError(f"{name}: stage {stage!r} is not a list of scenario ids")
    return found


def choose(store: Store, task: Task, splits: Splits, per_env: int | None, seed: int) -> Choice:
    """Choose the combos of a task that takes its scenarios from splits.

    Args:
        store: where the combos are.
        task: which one.
        splits: scenario ids by stage.
        per_env: combos of a scenario instead of the task's own number.
        seed: decides which combos of a scenario are taken where it has more.

    Raises:
        UserError: if the split file lacks a stage, or the store has none of the scenarios.
    """
    if missing := [split for split in task.splits if split not in splits]:
        raise UserError(
            f"task {task.name}: the split file has no {missing[0]!r}; it has {', '.join(splits) or 'none'}"
        )
    wanted = list(dict.fromkeys(env for split in task.splits for env in splits[split]))
    by_env = _combos_by_env(store, set(wanted))
    if not by_env:
        raise UserError(
            f"task {task.name}: {store.url} has no combo of the {len(wanted)} scenarios of {', '.join(task.splits)}; "
            "import them (`sotopia db import FILE…`), give other ids (--splits FILE), or try the demo world (--demo)"
        )
    count = per_env or task.combos_per_env
    taken = {env: shuffled(combos, f"{seed}/{env}")[:count] for env, combos in by_env.items()}
    rounds = max(len(combos) for combos in taken.values())
    order = [taken[env][i] for i in range(rounds) for env in wanted if env in taken and i < len(taken[env])]
    return Choice(order, len(by_env), len(wanted) - len(by_env))


def hard_environments(splits: Splits) -> frozenset[str]:
    """Return the scenarios of the hard subset; none where the split file has no such split."""
    return frozenset(splits.get(HARD_SPLIT, ()))


def shuffled(items: Iterable[Any], seed: str) -> list[Any]:
    """Shuffle by a seed, whatever the order they come in."""
    ordered = sorted(items)
    random.Random(seed).shuffle(ordered)
    return ordered


def _combos_by_env(store: Store, wanted: set[str]) -> dict[str, list[Combo]]:
    """Read the stored combos of these scenarios, each once, although it may be stored under several names."""
    found: dict[str, set[Combo]] = defaultdict(set)
    for record in store.profiles("combos"):
        if record["env_id"] in wanted and len(record["agent_ids"]) == 2:
            first, second = record["agent_ids"]
            found[record["env_id"]].add(Combo(record["env_id"], (first, second)))
    return {env: sorted(combos) for env, combos in found.items()}


def check_profiles(store: Store, combos: Sequence[Combo]) -> None:
    """Check that all scenarios and characters of the combos are there, before anything starts.

    Raises:
        UserError: the first one that is missing or cannot be played.
    """
    environments = {profile["pk"]: profile for profile in store.profiles("environments")}
    agents = {profile["pk"] for profile in store.profiles("agents")}
    for combo in combos:
        if combo.environment not in environments:
            raise _missing("scenario", combo.environment, store)
        if (goals := len(environments[combo.environment].get("agent_goals") or [])) < 2:
            raise UserError(
                f"{store.url}: scenario {combo.environment} has {goals} goals, expected one for each agent"
            )
        for agent in combo.agents:
            if agent not in agents:
                raise _missing("character", agent, store)


def _missing(what: str, pk: str, store: Store) -> UserError:
    return UserError(f"{store.url}: {what} {pk} is not there; import it with `sotopia db import FILE…`")
