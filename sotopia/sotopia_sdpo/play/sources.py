"""Find the stored session of a negative that does not name it, as in files of the authors' scripts.

Comes in: a scenario, two characters, a role and, where the file has it, the dialogue. Goes out: the one scored session
of task `neg` with this scenario, these characters and this role, as the authors match them; where there are several,
the dialogue decides. Invariant: where that leaves none or several, the record is refused, since what is sampled from
it could not be compared with anything later.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from sotopia_sdpo.play.actions import reads_as
from sotopia_sdpo.play.dialogue import Message, session_of
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.tag import task_in
from sotopia_sdpo.world.combos import Combo
from sotopia_sdpo.world.tasks import TASKS


NEGATIVES_TASK = "neg"
MOST_NAMED = 3
SAY_OTHER_WORDS = (
    "name no episode and are other dialogues than the one stored session with their scenario, characters and role; "
    "the file's dialogue is taken, with that session's scores"
)


class Place(NamedTuple):
    """Where a session takes place, and which side of it is meant."""

    combo: Combo
    agent_position: Literal[0, 1]

    def has(self, episode: Episode, conversations: Sequence[Message]) -> bool:
        """Return whether a ShareGPT dialogue, after its first human turn, is this side of an episode."""
        try:
            played = session_of(episode.messages).actions[self.agent_position :]
        except ValueError:
            return False
        has_system = bool(conversations) and conversations[0].get("from") == "system"
        said = [turn.get("value", "") for turn in conversations[1 + has_system :]]
        # The partner's last turn is left out of dialogues, since nothing answers it.
        return len(said) <= len(played) <= len(said) + 1 and all(map(reads_as, said, played))


def place_of(row: dict[str, Any]) -> Place:
    """Read the place of a record, by our names of its fields or the authors'.

    Raises:
        ValueError: if one is missing or wrong.
    """
    environment = field(row, str, "env_id", "env")
    agents = field(row, list, "agent_ids", "agents")
    position = field(row, int, "agent_position", "idx")
    if len(agents) != 2 or not all(isinstance(agent, str) for agent in agents):
        raise ValueError(f"the agents are {agents}, expected two ids")
    if position not in (0, 1):
        raise ValueError(f"agent_position is {position}, expected 0 or 1")
    return Place(Combo(environment, (agents[0], agents[1])), position)


def field(row: dict[str, Any], kind: type, *names: str) -> Any:
    """Return a field by the first of its names that is there.

    Raises:
        ValueError: if there is none, or it is of another kind.
    """
    for name in names:
        if name in row:
            value = row[name]
            if kind is int and isinstance(value, str) and value.isdecimal():
                value = int(value)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
            return value
    raise ValueError(f"{names[0]} is missing")


class Sources:
    """The stored sessions that negatives can come from."""

    def __init__(self, store: Store) -> None:
        """Take the store, which is read when a session is first looked for."""
        self.store = store

    def find(self, place: Place, conversations: Sequence[Message] | None = None) -> Episode:
        """Return the session of this place, and of this dialogue where several are.

        Raises:
            ValueError: if there is none, or more than one.
        """
        found = [
            episode
            for head in self._heads.get(place.combo, ())
            if (episode := self.store.get_episode(head.pk)) is not None and _may_be(episode, place.agent_position)
        ]
        if not found:
            raise ValueError(
                f"it names no episode, and {self.store.url} has no scored session of task {NEGATIVES_TASK} with its "
                "scenario, characters and role; import that (`sotopia db import FILE…`)"
            )
        same = found if conversations is None else [one for one in found if place.has(one, conversations)]
        if len(found) > 1 and len(same) != 1:
            names = ", ".join(one.pk for one in found[:MOST_NAMED]) + (", …" if len(found) > MOST_NAMED else "")
            which = "its dialogue is that of none" if not same else f"it may be that of {len(same)}"
            raise ValueError(
                f"it names no episode, and {len(found)} sessions have its scenario, characters and role "
                f'({names}): {which}; add "episode": ID'
            )
        return found[0] if len(found) == 1 else same[0]

    @cached_property
    def _heads(self) -> dict[Combo, list[EpisodeHead]]:
        """The scored sessions that start from no other one, by scenario and characters."""
        heads: dict[Combo, list[EpisodeHead]] = defaultdict(list)
        for head in self.store.heads():
            if head.status == "scored" and head.source_episode is None and len(head.agents) == 2:
                heads[Combo(head.environment, (head.agents[0], head.agents[1]))].append(head)
        return heads


def _may_be(episode: Episode, position: int) -> bool:
    """Return whether an episode was sampled for negatives, as far as it says, and this side is the target's."""
    return task_of_episode(episode) in (NEGATIVES_TASK, "") and position in target_positions(episode)


def task_of_episode(episode: Episode) -> str:
    """Return the task that an episode was sampled for: as recorded, else by its tag."""
    in_tag = task_in(episode.tag)
    return str(episode.settings.get("task") or (in_tag if in_tag in TASKS else ""))


def target_positions(episode: Episode) -> tuple[Literal[0, 1], ...]:
    """Return which sides are the target's: its own, or both in self-chat."""
    if episode.is_self_chat:
        return 0, 1
    return (1,) if episode.position else (0,)
