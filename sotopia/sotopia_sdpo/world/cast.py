"""Read scenarios and characters once each, and fill an empty database with the demo world.

Comes in: a store. Goes out: upstream's models of what a work item needs.
"""

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.upstream import agent, environment
from sotopia_sdpo.world.combos import Combo, Splits, hard_environments, load_splits


if TYPE_CHECKING:
    from sotopia.database import AgentProfile, EnvironmentProfile

DEMO_FILES = ("environments.jsonl", "agents.jsonl", "relationships.jsonl", "combos.jsonl")
DEMO_SPLITS = "splits.json"


class Cast(NamedTuple):
    """Who meets where, in upstream's models."""

    scenario: "EnvironmentProfile"
    characters: "tuple[AgentProfile, AgentProfile]"


class World:
    """The profiles of a store, each read once."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self.store = store
        self._scenarios: dict[str, EnvironmentProfile] = {}
        self._characters: dict[str, AgentProfile] = {}

    def cast(self, combo: Combo) -> Cast:
        """Return the scenario and the characters of a combo."""
        if combo.environment not in self._scenarios:
            self._scenarios[combo.environment] = environment(self.store, combo.environment)
        for pk in combo.agents:
            if pk not in self._characters:
                self._characters[pk] = agent(self.store, pk)
        first, second = (self._characters[pk] for pk in combo.agents)
        return Cast(self._scenarios[combo.environment], (first, second))


def require_world(store: Store, is_demo: bool) -> None:
    """Check that there is a world to run on; fill an empty database with the demo's.

    Raises:
        UserError: if the database is empty and the demo world is not wanted, holds another world although it is, or
            may drop what is written.
    """
    store.check_keeps()
    counts = store.counts().profiles
    is_empty = not any(counts.values())
    if is_demo and (is_empty or store.get_profile("environments", demo_splits()["sotopia_env"][0]) is None):
        if not is_empty:
            raise UserError(f"--demo: {store.url} holds other scenarios; name an empty one (--db sqlite:///demo.db)")
        _import_demo(store)
    elif is_empty:
        raise UserError(
            f"{store.url} is empty; fill it with `sotopia db import FILE…` (a published dump.rdb or JSONL files), "
            "or give --demo for the small world that comes with the package"
        )


def demo_splits() -> Splits:
    """Return the splits of the demo world."""
    with as_file(files("sotopia_sdpo").joinpath("world", "demo", DEMO_SPLITS)) as path:
        return load_splits(path)


def hard_subset(splits: Splits) -> frozenset[str]:
    """Return the hard scenarios of a split file, and those of the demo world, whose ids nobody else has."""
    return hard_environments(splits) | hard_environments(demo_splits())


def _import_demo(store: Store) -> None:
    from sotopia_sdpo.store.transfer import import_sources

    with as_file(files("sotopia_sdpo").joinpath("world", "demo")) as folder:
        import_sources(store, [str(folder / name) for name in DEMO_FILES])
