"""Read the rows that say what `pos` and `hpos` run: who plays where, and what is replayed first.

Comes in: negative_combos.json or negative_data_error.json. Goes out: one Origin a row, checked; a replayed one with
the actions of both sides up to the located turn, taken from the stored episode where it is there.
Invariant: a row is refused, with its number, rather than replayed to another turn than the located one.
"""

from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.play.actions import Action, reads_as
from sotopia_sdpo.play.dialogue import Message, actions_before, check_location, session_of, turn_at
from sotopia_sdpo.play.sources import Place, Sources, field, place_of
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

    differs: bool = False
    """Whether the dialogue of the file, which is replayed, is another one than that of the stored session."""

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
        UserError: the first row that is wrong, names no episode and does not fit exactly one of those stored, or
            starts from the same turn of the same episode as an earlier one, after other words.
    """
    assert task.file is not None, "only tasks that start from negatives have origins"
    rows, sources = read_list(path, task.file.writer), Sources(store)
    # By what the keys of their sessions are made of: two that share one would be played twice and stored once.
    found: dict[tuple[Any, ...], tuple[int, Origin]] = {}
    for number, row in enumerate(rows):
        try:
            origin = origin_of(row, sources, task.replays)
        except ValueError as err:
            raise wrong_record(path, number, err, task.file.writer) from err
        start = origin.combo, origin.agent_position, origin.episode, origin.location
        other, first = found.setdefault(start, (number, origin))
        if first.history != origin.history:
            reason = f"it starts from the same turn of the same session as record {other}, after other words; keep one"
            raise wrong_record(path, number, reason, task.file.writer)
    return [origin for _, origin in found.values()], len(rows) - len(found)


def origin_of(row: Any, sources: Sources, is_replayed: bool) -> Origin:
    """Read one row.

    Raises:
        ValueError: if it is wrong.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {str(row)[:60]!r}")
    place = place_of(row)
    conversations, location = _located(row) if is_replayed else (None, None)
    name = row.get("episode") or None
    if not isinstance(name, str | None):
        raise ValueError(f"episode is {name!r}, expected an id")
    stored = sources.store.get_episode(name) if name else sources.find(place, conversations)
    models = stored.players_from(place.agent_position) if stored else None
    origin = Origin(place.combo, place.agent_position, name or (stored.pk if stored else None), models=models)
    if conversations is None or location is None:
        return origin
    differs = not name and stored is not None and not place.has(stored, conversations)
    history = _history(conversations, location, place, None if differs else stored)
    return origin._replace(location=location, history=history, differs=differs)


def _located(row: dict[str, Any]) -> tuple[list[Message], int]:
    """Read the dialogue of a row and the located turn."""
    location, conversations = field(row, int, "location"), row.get("conversations")
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise ValueError("conversations is missing")
    for index, turn in enumerate(conversations):
        if not isinstance(turn.get("value", ""), str):
            raise ValueError(f"turn {index} has the value {str(turn['value'])[:60]!r}, expected a text")
    check_location(conversations, location)
    return conversations, location


def _history(conversations: list[Message], location: int, place: Place, stored: Episode | None) -> tuple[Action, ...]:
    """Read what both sides did before the located turn, and check the row against its stored episode."""
    position = place.agent_position
    if stored is None:
        return tuple(actions_before(conversations, location, position))
    start = int(conversations[0].get("from") == "system")
    played = _played(stored, place.combo, turn_at(location, position, bool(start)))
    said = [turn.get("value", "") for turn in conversations[start + 1 : location]]
    if len(said) != len(played[position:]) or not all(map(reads_as, said, played[position:])):
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
