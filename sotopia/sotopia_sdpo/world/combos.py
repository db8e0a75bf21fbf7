"""Choose the scenario-and-characters combinations that a task runs on.

Comes in: a store, a split file, the task. Goes out: combos in the order they are run: the first one of every
scenario, then the second ones, so that a limit cuts evenly.
Invariant: the choice depends on the seed, the split file and the stored combos, not on their order in the store.
"""

import json
import random
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.tasks import ALL_SPLIT, HARD_SPLIT, Task


SPLITS_FILE = "published.json"
ABOUT = "about"
FETCH_TIMEOUT_S = 60.0

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


def choose(
    store: Store, task: Task, splits: Splits, per_env: int | None, seed: int, listed: Sequence[Combo] | None = None
) -> Choice:
    """Choose the combos of a task that takes its scenarios from splits.

    Args:
        store: where the combos are.
        task: which one.
        splits: scenario ids by stage.
        per_env: combos of a scenario instead of the task's own number.
        seed: decides which combos of a scenario are taken where it has more.
        listed: take them from this list instead of the store; task `all` then has all of its scenarios.

    Raises:
        UserError: if the split file lacks a stage, or the store has none of the scenarios.
    """
    if missing := [split for split in task.splits if split not in splits]:
        raise UserError(
            f"task {task.name}: the split file has no {missing[0]!r}; it has {', '.join(splits) or 'none'}"
        )
    wanted = list(dict.fromkeys(env for split in task.splits for env in splits[split]))
    if listed is not None and ALL_SPLIT in task.splits:
        wanted = list(dict.fromkeys(combo.environment for combo in listed))
    by_env = _by_env(_stored(store) if listed is None else listed, set(wanted))
    if not by_env:
        where = store.url if listed is None else "the list of --url"
        raise UserError(
            f"task {task.name}: {where} has no combo of the {len(wanted)} scenarios of {', '.join(task.splits)}; "
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


def _stored(store: Store) -> Iterator[Combo]:
    """Read the combos of a store."""
    for record in store.profiles("combos"):
        if len(record["agent_ids"]) == 2:
            first, second = record["agent_ids"]
            yield Combo(record["env_id"], (first, second))


def _by_env(combos: Iterable[Combo], wanted: set[str]) -> dict[str, list[Combo]]:
    """Group the combos of these scenarios, each once, although it may be stored under several names."""
    found: dict[str, set[Combo]] = defaultdict(set)
    for combo in combos:
        if combo.environment in wanted:
            found[combo.environment].add(combo)
    return {env: sorted(combos) for env, combos in found.items()}


def fetch_combos(url: str) -> list[Combo]:
    """Read the list of combos at an address, as upstream's `--url` names it.

    Raises:
        UserError: if it cannot be had, or is no list of scenarios with two characters.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UserError("--url: the address cannot be read; expected http://… or https://…") from None
    # Whatever may hold a key is not shown.
    shown = f"{parts.scheme}://{parts.hostname}{parts.path}"
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--url {shown}: expected an address, http://… or https://…")
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310 (checked above)
            rows = json.loads(answer.read())
    except (OSError, HTTPException, ValueError, RecursionError) as err:
        raise UserError(f"--url {shown}: no list of combos can be read there ({str(err)[:80]}); correct it") from err
    if not isinstance(rows, list) or not rows:
        raise UserError(f"--url {shown}: expected a list of combos, found {'none' if rows == [] else 'no list'}")
    return [_fetched(shown, number, row) for number, row in enumerate(rows)]


def _fetched(url: str, number: int, row: Any) -> Combo:
    env, agents = (row.get("env_id"), row.get("agent_ids")) if isinstance(row, dict) else (None, None)
    is_two = isinstance(agents, list) and len(agents) == 2 and all(isinstance(one, str) for one in agents)
    if not isinstance(env, str) or not isinstance(agents, list) or not is_two:
        raise UserError(f"--url {url} record {number}: expected an env_id and two agent_ids, found {str(row)[:60]!r}")
    return Combo(env, (agents[0], agents[1]))


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
