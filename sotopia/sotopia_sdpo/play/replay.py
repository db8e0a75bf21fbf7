"""Read the rows that say what `pos` and `hpos` run: who plays where, and what is replayed first.

Comes in: negative_combos.json or negative_data_error.json. Goes out: one Origin a row, checked; a replayed one with
the actions of both sides up to the located turn, taken from the stored episode where it is there.
Invariant: a row is refused, with its number, rather than replayed to another turn than the located one.
"""

from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import actions_before, check_location, session_of, turn_at
from sotopia_sdpo.step_files import read_list, wrong_record
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.combos import Combo
from sotopia_sdpo.world.tasks import Task


class Origin(NamedTuple):
    """Where a positive starts from."""

    combo: Combo
    agent_position: int | None
    """Where the target sits; None where both sides are the target."""
    episode: str | None
    """The negative's episode."""
    location: int | None = None
    """The located turn, an index into the negative's conversations."""
    history: tuple[Action, ...] = ()
    """What is replayed, by turn."""
    models: tuple[str, str] | None = None
    """The agent's model and its partner's in the negative, without addresses; None where its episode is not stored."""

    def is_with(self, partner: str, is_self_chat: bool) -> bool:
        """Return whether the negative was played with this partner, or in self-chat as well."""
        if self.models is None:
            return True
        agent, other = self.models
        return is_self_chat if agent == other else not is_self_chat and other == without_address(partner)


def load_origins(path: Path, task: Task, store: Store) -> tuple[list[Origin], int]:
    """Read the file of a task.

    Returns:
        The origins, and how many duplicate rows were skipped.

    Raises:
        UserError: the first row that is wrong.
    """
    assert task.file is not None, "only tasks that start from negatives have origins"
    rows = read_list(path, task.file.writer)
    origins = []
    for number, row in enumerate(rows):
        try:
            origins.append(_origin(row, store, task.replays))
        except ValueError as err:
            raise wrong_record(path, number, err, task.file.writer) from err
    unique = list(dict.fromkeys(origins))
    return unique, len(origins) - len(unique)


def _origin(row: Any, store: Store, is_replayed: bool) -> Origin:
    """Read one row."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {str(row)[:60]!r}")
    environment = _field(row, str, "env_id", "env")
    agents = _field(row, list, "agent_ids", "agents")
    position = _field(row, int, "agent_position", "idx")
    if len(agents) != 2 or not all(isinstance(agent, str) for agent in agents):
        raise ValueError(f"the agents are {agents}, expected two ids")
    if position not in (0, 1):
        raise ValueError(f"agent_position is {position}, expected 0 or 1")
    episode = row.get("episode")
    if not isinstance(episode, str | None):
        raise ValueError(f"episode is {episode!r}, expected an id")
    stored = store.get_episode(episode) if episode else None
    models = stored.players_from(position) if stored else None
    origin = Origin(Combo(environment, (agents[0], agents[1])), position, episode or None, models=models)
    if not is_replayed:
        return origin
    location = _field(row, int, "location")
    history = _history(row, stored, origin.combo, position, location)
    return origin._replace(location=location, history=history)


def _field(row: dict[str, Any], kind: type, *names: str) -> Any:
    """Return a field by the first of its names that is there."""
    for name in names:
        if name in row:
            value = row[name]
            if kind is int and isinstance(value, str) and value.isdigit():
                value = int(value)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
            return value
    raise ValueError(f"{names[0]} is missing")


def _history(
    row: dict[str, Any], stored: Episode | None, combo: Combo, position: int, location: int
) -> tuple[Action, ...]:
    """Read what both sides did before the located turn, and check the row against its stored episode."""
    conversations = row.get("conversations")
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise ValueError("conversations is missing")
    check_location(conversations, location)
    if stored is None:
        return tuple(actions_before(conversations, location, position))
    played = _played(stored, combo, turn_at(location, position, conversations[0].get("from") == "system"))
    first = played[0] if played else None
    if tuple(actions_before(conversations, location, position, first)) != played:
        raise ValueError(f"the dialogue is not that of its episode {stored.pk}")
    return played


def _played(stored: Episode, combo: Combo, turns: int) -> tuple[Action, ...]:
    """Return the first turns of a stored episode."""
    if (stored.environment, tuple(stored.agents)) != (combo.environment, combo.agents):
        raise ValueError(f"its episode {stored.pk} has another scenario or other agents")
    played = session_of(stored.messages).actions
    if len(played) <= turns:
        raise ValueError(f"its episode {stored.pk} has {len(played)} turns, so turn {turns} cannot be located in it")
    return played[:turns]
