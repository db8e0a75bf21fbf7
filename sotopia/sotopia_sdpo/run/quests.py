"""Work out which episodes of an environment a command has to run.

Comes in: what the user asked for, an instance that knows its quests, and the files of the negatives. Goes out: work
items in the order they are run, each with the key under which its episode is stored. Invariant: as in `plan.py`; and
a negative is replayed as its stored episode says, never as a file does.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.envs.protocol import Environment, Quest, Split
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.play.dialogue import check_location
from sotopia_sdpo.play.walk import AGENT, Walk, fingerprint, sharegpt_of, turn_of, walk_of
from sotopia_sdpo.step_files import LOCATED, NEGATIVES, StepFile, read_list, wrong_record
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import ENV, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey, combo_key
from sotopia_sdpo.world.tasks import Task


GOLD = "gold"
"""Stands for the model where the environment's own gold actions are played."""
GREEDY = 0.0
QUEST_SPLITS: dict[str, Split] = {"sft": "train", "neg": "train", "all": "test"}
NEGATIVE_FILES: dict[str, StepFile] = {"pos": NEGATIVES, "hpos": LOCATED}


@dataclass(frozen=True)
class QuestRun:
    """One model in one environment: everything that its episodes have in common."""

    env: str
    task: Task
    model: ModelSpec | None
    """None where gold actions are played."""
    env_settings: dict[str, Any] = field(default_factory=dict)
    split: Split | None = None
    """None where negatives say what is played."""
    temperature: float = GREEDY
    top_p: float | None = None
    top_k: int | None = None
    max_actions: int = 0
    trials: int = 1
    seed: int = 0
    tag: str = ""
    """Instead of the tag that follows from the names."""

    @property
    def players(self) -> tuple[str, str, str]:
        """Return who scores and who plays, by name: the environment is judge and partner in one."""
        return self.env, self.model.name if self.model else GOLD, self.env

    @property
    def tags(self) -> list[str]:
        """Return the tags of all its trials."""
        return list(dict.fromkeys(self.tag_for(trial) for trial in range(self.trials)))

    def tag_for(self, trial: int) -> str:
        """Return the tag of a trial's episodes; it names the split where it is not the task's own."""
        other = f"{self.split}_" if self.split not in (None, QUEST_SPLITS.get(self.task.name)) else ""
        return self.tag or f"rollout_{self.env}_{self.players[1]}_{other}{self.task.name}_trial{trial}"

    def settings(self) -> dict[str, Any]:
        """Return what an episode stores of it."""
        return {**self.compared, "split": self.split, "run_seed": self.seed}

    @property
    def compared(self) -> dict[str, Any]:
        """Return the settings in which all episodes of a tag agree."""
        return {
            ENV: self.env,
            "task": self.task.name,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_actions": self.max_actions,
            "prompt_template": fingerprint(),
            **self.env_settings,
        }


class Start(NamedTuple):
    """Where an episode begins: a quest, perhaps that of a negative, perhaps in the middle of it."""

    quest: Quest
    episode: str | None = None
    location: int | None = None
    history: Walk | None = None


class QuestItem(NamedTuple):
    """One episode to run."""

    run: QuestRun
    key: EpisodeKey
    quest: Quest
    source_episode: str | None = None
    location: int | None = None
    history: Walk | None = None
    """What is replayed first."""
    repeat: int = 0
    """How many items before it start from the same point, for another negative."""
    stored: EpisodeHead | None = None

    def with_stored(self, head: EpisodeHead | None) -> "QuestItem":
        """Return the item with what is stored under its key by now."""
        return self._replace(stored=head)

    @property
    def environment(self) -> str:
        """Where the episode takes place, as it is stored."""
        return place_of(self.run.env, self.quest)

    @property
    def seed(self) -> int:
        """A seed that is this episode's own, and the same whenever it is run, whatever the run is called."""
        point = [self.run.seed, self.run.task.name, self.environment, self.history, self.key.trial]
        # The first of a point is drawn as in versions that did not count.
        point += [self.repeat] if self.repeat else []
        digest = hashlib.sha256(json.dumps(point).encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


def place_of(env: str, quest: Quest) -> str:
    """Return where a quest takes place, in the words of a store, which has one name for it."""
    return f"{env}/{quest}"


def quest_at(place: str, env: str) -> Quest:
    """Return the quest of a stored episode of an environment.

    Raises:
        ValueError: if it is another environment's, or SOTOPIA's.
    """
    kind, _, variation = place.removeprefix(f"{env}/").rpartition("/")
    if not place.startswith(f"{env}/") or not kind or not variation.isdecimal():
        raise ValueError(f"its episode is not one of --env {env}, but takes place at {place}")
    return Quest(kind, int(variation))


def kinds_of(environment: Environment, typed: Sequence[str]) -> list[str]:
    """Return the kinds of quests that are meant: those typed, else all.

    Raises:
        UserError: if there is no such kind.
    """
    known = list(environment.kinds)
    for kind in typed:
        if kind not in known:
            near = get_close_matches(kind, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"--tasks-of: no kind of quest is called {kind!r}; {hint}")
    return list(dict.fromkeys(typed)) or known


def quests_of(environment: Environment, kinds: Iterable[str], split: Split, seed: int) -> list[Quest]:
    """Return the quests of a split, one of each kind in turn, so that the first ones are a sample of all kinds."""

    def rank(quest: Quest) -> bytes:
        return hashlib.sha256(f"{seed}/{quest}".encode()).digest()

    by_kind = [
        sorted((Quest(kind, variation) for variation in environment.variations(kind, split)), key=rank)
        for kind in kinds
    ]
    return [quest for row in zip_longest(*by_kind) for quest in row if quest is not None]


def items_of_quests(run: QuestRun, quests: Iterable[Quest]) -> list[QuestItem]:
    """Make the items of a task that plays the quests of a split."""
    return [item for quest in quests for item in items_from(run, Start(quest))]


def items_of_negatives(run: QuestRun, path: Path, store: Store, kinds: Sequence[str]) -> list[QuestItem]:
    """Make the items of a task that starts from negatives, of these kinds alone if there are any.

    Raises:
        UserError: the first record that is wrong, or differs from its stored episode.
    """
    starts: dict[Start, None] = {}
    for number, row in enumerate(read_list(path, writer := NEGATIVE_FILES[run.task.name].writer)):
        try:
            start = _start(run, row, store)
        except ValueError as err:
            raise wrong_record(path, number, err, writer) from err
        if not kinds or start.quest.kind in kinds:
            starts[start] = None
    return [item for start, repeat in repeats(starts) for item in items_from(run, start, repeat)]


def _start(run: QuestRun, row: Any, store: Store) -> Start:
    """Read where the sessions that start from a negative begin.

    Raises:
        ValueError: if the record names no stored episode of this environment, or its dialogue is not that episode's.
    """
    pk = row.get("episode") if isinstance(row, dict) else None
    stored = store.get_episode(pk) if isinstance(pk, str) else None
    if stored is None:
        raise ValueError(f"its episode {pk!r} is not in {store.url}")
    quest = quest_at(stored.environment, run.env)
    if not run.task.replays:
        return Start(quest, stored.pk)
    location, turns = row.get("location"), row.get("conversations")
    if not isinstance(location, int) or not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise ValueError("location or conversations is missing")
    check_location(turns, location)
    walk = walk_of(stored.messages)
    own = sharegpt_of(walk)[: location + 1]
    if [{name: turn.get(name) for name in ("from", "value")} for turn in turns[: location + 1]] != own:
        raise ValueError(f"the dialogue is not that of its episode {stored.pk}")
    return Start(quest, stored.pk, location, walk.before(turn_of(location)))


def repeats(starts: Iterable[Start]) -> Iterator[tuple[Start, int]]:
    """Return each start with the number of those before it that are the same point, of another negative."""
    seen: Counter[tuple[Quest, Walk | None]] = Counter()
    for start in starts:
        point = start.quest, start.history
        yield start, seen[point]
        seen[point] += 1


def items_from(run: QuestRun, start: Start, repeat: int = 0) -> list[QuestItem]:
    """Make the items of all trials that begin there."""
    combo = combo_key(place_of(run.env, start.quest), [AGENT], start.episode, start.location)
    keys = (EpisodeKey(run.tag_for(trial), combo, 0, trial) for trial in range(run.trials))
    return [QuestItem(run, key, *start, repeat) for key in keys]
