"""Work out which episodes a command has to run.

Comes in: what the user asked for, and the store. Goes out: work items in the order they are run, each with the key
under which its episode is stored, and how many are done already.
Invariant: two commands that ask for the same make the same keys, so one goes on where the other stopped.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import Evaluator, judges_of
from sotopia_sdpo.llm.spec import ModelSpec, without_address
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import MAX_TURNS, Template
from sotopia_sdpo.play.replay import Origin
from sotopia_sdpo.play.script import Player, Script
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey, combo_key
from sotopia_sdpo.store.tag import tag_of
from sotopia_sdpo.world.combos import Combo
from sotopia_sdpo.world.tasks import Task


COMPARED_SETTINGS = (
    *("temperature", "target_temperature", "top_p", "top_k"),
    *("prompt_template", "evaluator_template", "max_turns"),
)
"""Episodes of one tag agree in these; a seed or a limit may differ, since it only chooses among episodes."""
SIMULATED = "simulated"
"""The setting that lists which of an episode's models were scripted."""
LEFT_OUT = "left_out"
"""The setting that lists, by model, what its server refused, so that requests went without."""


@dataclass(frozen=True)
class Run:
    """One model against one partner: everything that its episodes have in common."""

    model: ModelSpec
    partner: ModelSpec
    evaluator: Evaluator
    task: Task
    template: Template
    evaluator_template: str = ""
    """A hash of the evaluator's wording."""
    temperature: float = 0.7
    target_temperature: float = 0.7
    top_p: float | None = None
    """Of the model under test alone, as top_k; None: not sent, so the server's own value holds."""
    top_k: int | None = None
    trials: int = 1
    seed: int = 0
    tag: str = ""
    """Instead of the tag that follows from the models."""

    @property
    def is_self_chat(self) -> bool:
        """Return whether both sides are the same model."""
        return self.model.name == self.partner.name

    def tag_for(self, trial: int) -> str:
        """Return the tag of a trial's episodes."""
        names = (self.model.name, self.partner.name, self.evaluator.name)
        return self.tag or tag_of(*names, self.task.name, trial)

    @property
    def tags(self) -> list[str]:
        """Return the tags of all its trials."""
        return list(dict.fromkeys(self.tag_for(trial) for trial in range(self.trials)))

    @property
    def players(self) -> tuple[str, str, str]:
        """Return who judges and who plays, by name, as episodes list them."""
        return self.evaluator.name, self.model.name, self.partner.name

    @property
    def compared(self) -> dict[str, Any]:
        """Return the settings in which all episodes of a tag agree."""
        settings = self.settings()
        return {name: settings[name] for name in COMPARED_SETTINGS}

    def settings(self) -> dict[str, Any]:
        """Return what an episode stores of it."""
        return {
            "task": self.task.name,
            "temperature": self.temperature,
            "target_temperature": self.target_temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "prompt_template": self.template.fingerprint,
            "evaluator_template": self.evaluator_template,
            "max_turns": MAX_TURNS,
            "run_seed": self.seed,
        }


Start = tuple[str, tuple[str, str], int | None, int | None, tuple[Action, ...]]


class WorkItem(NamedTuple):
    """One episode to run, or to evaluate."""

    run: Run
    key: EpisodeKey
    combo: Combo
    agent_position: int | None
    """Where the target sits; None where both sides are the target."""
    source_episode: str | None = None
    location: int | None = None
    history: tuple[Action, ...] = ()
    repeat: int = 0
    """How many items before it start from the same point, for another negative."""
    stored: EpisodeHead | None = None
    """The episode that an earlier run left without a score."""

    def side(self, position: int) -> Player:
        """Return who plays at a position, and how its answers are drawn."""
        if self.agent_position in (None, position):
            return Player(self.run.model, self.run.target_temperature, self.run.top_p, self.run.top_k)
        return Player(self.run.partner, self.run.temperature)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """Everyone who is called."""
        return *judges_of(self.run.evaluator), self.side(0).model, self.side(1).model

    @property
    def names(self) -> list[str]:
        """Who takes part, as an episode lists them: evaluator, first agent, second agent."""
        return [self.run.evaluator.name, self.side(0).model.name, self.side(1).model.name]

    def with_stored(self, head: EpisodeHead | None) -> "WorkItem":
        """Return the item with what is stored under its key by now."""
        return self._replace(stored=head)

    @property
    def script(self) -> Script:
        """All that decides how its session goes."""
        players = self.side(0), self.side(1)
        return Script(players, self.run.template, self.seed, self.key.pk, self.history)

    @property
    def seed(self) -> int:
        """A seed that is this episode's own, and the same whenever it is run, whatever the run is called."""
        point = [self.run.seed, self.run.task.name, *start_of(self), self.repeat, self.key.trial]
        digest = hashlib.sha256(json.dumps(point).encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


class Planned(Protocol):
    """One episode to run."""

    @property
    def run(self) -> "PlannedRun":
        """What it has in common with others."""

    @property
    def key(self) -> EpisodeKey:
        """The key under which it is stored."""

    @property
    def stored(self) -> EpisodeHead | None:
        """What is stored under it."""

    def with_stored(self, head: EpisodeHead | None) -> Self:
        """Return the item with what is stored under its key by now."""


class PlannedRun(Protocol):
    """What all episodes of a run have in common."""

    @property
    def tags(self) -> list[str]:
        """The tags of all its trials."""

    @property
    def players(self) -> tuple[str, str, str]:
        """Who judges and who plays, by name, as episodes list them."""

    @property
    def compared(self) -> dict[str, Any]:
        """The settings in which all episodes of a tag agree."""


W = TypeVar("W", bound=Planned)


class Plan(NamedTuple, Generic[W]):
    """What is to be done, and what is there already."""

    items: list[W]
    done: frozenset[EpisodeKey]
    """Episodes that an earlier run has finished."""
    unscored: int
    """Episodes among the items that only need their evaluation."""
    failed: int
    """Episodes among the items that an earlier run has failed at."""


def items_of_combos(run: Run, combos: Sequence[Combo]) -> list[WorkItem]:
    """Make the items of a task that takes combos from splits: in both roles where the models differ."""
    positions = (None,) if run.is_self_chat else (0, 1)
    return [
        _item(run, Origin(combo, position, None), trial)
        for combo in combos
        for position in positions
        for trial in range(run.trials)
    ]


def items_of_origins(run: Run, origins: Sequence[Origin]) -> list[WorkItem]:
    """Make the items of a task that starts from negatives: each in the negative's role."""
    seen: Counter[Start] = Counter()
    items = []
    for origin in origins:
        start = start_of(origin)
        items += [_item(run, origin, trial)._replace(repeat=seen[start]) for trial in range(run.trials)]
        seen[start] += 1
    return items


def start_of(origin: Origin | WorkItem) -> Start:
    """Return from which point a session starts: scenario, agents, role, and what is replayed.

    It is not told by its negative's episode, whose name holds the tag of the run that sampled it.
    """
    combo = origin.combo
    return combo.environment, combo.agents, origin.agent_position, origin.location, origin.history


def _item(run: Run, origin: Origin, trial: int) -> WorkItem:
    combo = combo_key(origin.combo.environment, origin.combo.agents, origin.episode, origin.location)
    key = EpisodeKey(run.tag_for(trial), combo, origin.agent_position or 0, trial)
    return WorkItem(run, key, origin.combo, origin.agent_position, origin.episode, origin.location, origin.history)


def plan(store: Store, items: Sequence[W]) -> Plan[W]:
    """Return the items that are not scored yet; those that only need their evaluation carry the stored episode.

    Raises:
        UserError: if a tag holds episodes that were made with other settings.
    """
    for run in {item.run.tags[0]: item.run for item in items}.values():
        check_run(store, run)
    stored = store.find_keys({item.key for item in items})
    left = [item.with_stored(stored.get(item.key)) for item in items]
    statuses = Counter(item.stored.status for item in left if item.stored)
    return Plan(
        [item for item in left if item.stored is None or item.stored.status != "scored"],
        frozenset(item.key for item in left if item.stored and item.stored.status == "scored"),
        statuses["unscored"],
        statuses["failed"],
    )


def check_run(store: Store, run: PlannedRun) -> None:
    """Refuse to mix episodes of different settings under the tags of a run; imported ones without settings pass.

    Raises:
        UserError: if those that are stored were made with others.
    """
    for tag in run.tags:
        _check_settings(store, tag, run)


def _check_settings(store: Store, tag: str, run: PlannedRun) -> None:
    """Refuse to go on with a tag whose first episode was made otherwise."""
    first = next(iter(store.episodes(tag)), None)
    if first is None:
        return
    _check_models(tag, run, first)
    for name, wanted in run.compared.items():
        if name in first.settings and first.settings[name] != wanted:
            raise UserError(
                f"tag {tag}: its episodes have {name} {first.settings[name]}, this command {wanted}; "
                f"give another --tag, the same {name}, or delete them (`sotopia db delete --tag …`)"
            )


def agreed(run: PlannedRun) -> list[Any]:
    """Return what all episodes of a tag agree in, whoever samples them."""
    return [_by_name(run.players), run.compared]


def _by_name(models: Sequence[str]) -> list[Any]:
    """Return the judge and the sorted players; the same ones may have moved to another address."""
    return [*map(without_address, models[:1]), sorted(map(without_address, models[1:]))]


def _check_models(tag: str, run: PlannedRun, first: Episode) -> None:
    """Refuse to go on under a name that other models have."""
    if len(first.models) == 3 and _by_name(first.models) != _by_name(run.players):
        raise UserError(
            f"tag {tag}: its episodes are by {', '.join(first.models[1:])}, judged by {first.models[0]}; "
            "give another --tag for other models (`sotopia evaluate` for another evaluator)"
        )
