"""What is stored, and what every store can do, whatever keeps it.

Comes in: episodes (upstream's EpisodeLog plus what it lacks) and profiles of four kinds in upstream's shape.
Goes out: the same, whole or as heads (an episode without its text), from SQLite or any Redis behind one interface.
Invariant: every method that writes is one atomic step, so a process killed between two calls leaves a store that
is right; an episode that is being run is claimed by one owner, and a dead owner's claim runs out.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.store.keys import EpisodeKey, combo_key, whole_text
from sotopia_sdpo.store.tag import is_of_players, trial_in


if TYPE_CHECKING:
    from sotopia.database import AgentProfile, EnvAgentComboStorage, EnvironmentProfile, RelationshipProfile

Status = Literal["scored", "unscored", "failed"]
ProfileKind = Literal["environments", "agents", "relationships", "combos"]
PROFILE_KINDS: tuple[ProfileKind, ...] = get_args(ProfileKind)

# One agent's verdict as upstream keeps it: the overall score and the seven dimensions by name.
Reward = tuple[float, dict[str, float]]
Profile = dict[str, Any]


class EpisodeHead(NamedTuple):
    """An episode without its text: what planning and tables need, read for 100,000 episodes in one query."""

    pk: str
    key: EpisodeKey
    status: Status
    environment: str
    agents: tuple[str, ...]
    models: tuple[str, ...]
    """Evaluator, first agent, second agent, as upstream orders them; empty where unknown."""
    agent_position: int | None
    source_episode: str | None
    failure: str


class Episode(BaseModel):
    """One session, whole: upstream's EpisodeLog fields first, then ours.

    `Episode(**log)` of a plain EpisodeLog is scored where every agent has a verdict, else unscored.
    """

    model_config = ConfigDict(extra="forbid")

    pk: str = ""
    """Left empty: the pk of the key, so that a second try of the same work takes the first one's place."""
    environment: str
    agents: list[str]
    tag: str = ""
    models: list[str] = Field(default_factory=list)
    messages: list[list[tuple[str, str, str]]]
    """By turn: (sender, receiver, text)."""
    reasoning: str = ""
    rewards: list[Reward | float] = Field(default_factory=list)
    """One verdict an agent when status is scored, empty otherwise."""
    rewards_prompt: str = ""

    status: Status
    failure: str = ""
    """Why there is no score: a failed episode's error, or what the evaluator's answer lacked."""
    source_episode: str | None = None
    agent_position: int | None = None
    location: int | None = None
    trial: int = 0
    seed: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    usage: dict[str, Any] = Field(default_factory=dict)
    created: datetime | None = Field(default_factory=lambda: datetime.now(UTC))
    """None where an imported episode does not tell."""

    @model_validator(mode="before")
    @classmethod
    def _read_plain_log(cls, data: Any) -> Any:
        """Fill what a plain EpisodeLog lacks: the status by its rewards, the trial by its tag."""
        if not isinstance(data, dict):
            return data
        data = whole_text({**data, **{name: "" for name in ("pk", "tag") if data.get(name) is None}})
        data["models"] = data.get("models") or []
        if data.get("status") is None:
            data["status"] = "scored" if has_verdicts(data.get("rewards"), data.get("agents")) else "unscored"
            data["rewards"] = data["rewards"] if data["status"] == "scored" else []
        if data.get("trial") is None:
            data["trial"] = trial_in(str(data["tag"]))
        return data

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse an episode that contradicts itself, and name one that has no name yet."""
        if self.status == "scored" and not has_verdicts(self.rewards, self.agents):
            raise ValueError(f"status is 'scored', but not each of {len(self.agents)} agents has a verdict in rewards")
        if self.status != "scored" and self.rewards:
            raise ValueError(f"status is '{self.status}', so rewards must be empty")
        if self.status == "failed" and not self.failure:
            raise ValueError("status is 'failed', so failure must say why")
        if self.agent_position not in (None, *range(len(self.agents))):
            raise ValueError(f"agent_position is {self.agent_position}, expected 0 to {len(self.agents) - 1}")
        if not self.pk:
            self.pk = self.key.pk
        return self

    @property
    def key(self) -> EpisodeKey:
        """Say which piece of work this is."""
        combo = combo_key(self.environment, self.agents, self.source_episode, self.location)
        return EpisodeKey(self.tag, combo, self.position, self.trial)

    @property
    def position(self) -> int:
        """Say where the target agent sits: as recorded, else by the tag's and the models' order, else 0."""
        if self.agent_position is not None:
            return self.agent_position
        if len(self.models) != 3 or self.models[1] == self.models[2]:
            return 0
        return int(is_of_players(self.tag, self.models[2], self.models[1]))

    @property
    def is_self_chat(self) -> bool:
        """Whether both sides are the target: one model on both, and no role recorded."""
        return self.agent_position is None and len(set(self.models[1:])) == 1

    def players_from(self, position: int) -> tuple[str, str] | None:
        """Name the model at a position and the one at the other, without addresses; None where it does not tell."""
        if len(self.models) != 3:
            return None
        sides = [without_address(model) for model in self.models[1:]]
        return sides[position], sides[1 - position]

    @property
    def head(self) -> EpisodeHead:
        """Give the episode without its text."""
        return EpisodeHead(
            self.pk,
            self.key,
            self.status,
            self.environment,
            tuple(self.agents),
            tuple(self.models),
            self.agent_position,
            self.source_episode,
            self.failure,
        )


Record = tuple[Literal["episodes"], Episode] | tuple[ProfileKind, Profile]
"""Something to store, and what it is."""


def has_verdicts(rewards: Any, agents: Any) -> bool:
    """Tell whether every agent has an overall score with its dimensions, not upstream's bare 0.0 for "no answer"."""
    if not isinstance(rewards, list | tuple) or not isinstance(agents, list | tuple) or not agents:
        return False
    return len(rewards) == len(agents) and all(map(is_verdict, rewards))


def is_verdict(reward: Any) -> bool:
    """Tell whether one agent's reward is an overall score with at least one dimension, all of them finite."""
    if not isinstance(reward, list | tuple) or len(reward) != 2 or not isinstance(reward[1], dict) or not reward[1]:
        return False
    return all(isinstance(score, int | float) and isfinite(score) for score in (reward[0], *reward[1].values()))


class StoreCounts(NamedTuple):
    """What a store holds."""

    profiles: dict[ProfileKind, int]
    episodes: dict[str, dict[Status, int]]
    """By tag, then by status; a status without episodes is absent."""


class Store(ABC):
    """Episodes, profiles and claims in one place, shared by any number of processes.

    Methods block for a moment; they may be called from any thread. Close it, or use it in a `with`.
    """

    url: str
    """Where it is, without a password."""

    @abstractmethod
    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        """Write one episode, replacing the one of its pk.

        With an owner, in one step: only where the owner still holds the claim on the episode's key; earlier tries
        of that key that are not scored go, and the claim is released.

        Returns:
            False, and nothing is written, where the owner has lost the claim.
        """

    @abstractmethod
    def put_records(self, records: Iterable[Record]) -> None:
        """Write many at once, all or none, replacing what has the same pk; the iterable may stream and may raise."""

    def put_all(self, episodes: Iterable[Episode], profiles: Iterable[tuple[ProfileKind, Profile]] = ()) -> None:
        """Write episodes and profiles at once, all or none."""
        self.put_records(chain(profiles, (("episodes", episode) for episode in episodes)))

    def put_profiles(self, kind: ProfileKind, profiles: Iterable[Profile]) -> None:
        """Write profiles, all or none, replacing what has the same pk; each needs its `pk`."""
        self.put_records((kind, profile) for profile in profiles)

    @abstractmethod
    def get_episode(self, pk: str) -> Episode | None:
        """Read one episode."""

    @abstractmethod
    def episodes(self, tag: str | None = None, status: Status | None = None) -> Iterator[Episode]:
        """Read episodes in the order of their pk, a few at a time; writes in between do not disturb it."""

    @abstractmethod
    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        """Read the heads of all episodes of these tags (None: of all) in one query, in the order of their pk."""

    @abstractmethod
    def find_keys(self, keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        """Find in one query which keys have an episode; a scored one is preferred, then an unscored one."""

    @abstractmethod
    def delete_episodes(self, pks: Collection[str]) -> int:
        """Delete episodes by pk and return how many there were."""

    @abstractmethod
    def delete_tag(self, tag: str) -> int:
        """Delete all episodes of a tag and return how many there were."""

    @abstractmethod
    def get_profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile in upstream's shape."""

    @abstractmethod
    def profiles(self, kind: ProfileKind) -> Iterator[Profile]:
        """Read all profiles of a kind in upstream's shape, in the order of their pk."""

    @abstractmethod
    def counts(self) -> StoreCounts:
        """Count what is there."""

    @abstractmethod
    def claim(self, key: EpisodeKey, owner: str, ttl_s: float) -> bool:
        """Take a key for ttl_s seconds, or keep it if it is the owner's already.

        Returns:
            False where another owner's claim is alive, or where a scored episode of the key is there by now.
        """

    @abstractmethod
    def renew(self, keys: Collection[EpisodeKey], owner: str, ttl_s: float) -> set[EpisodeKey]:
        """Prolong claims and return the keys that are still the owner's; the others were lost."""

    @abstractmethod
    def release(self, keys: Collection[EpisodeKey], owner: str) -> None:
        """Give claims up; keys that are not the owner's are left as they are."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""

    def environment(self, pk: str) -> "EnvironmentProfile":
        """Read a scenario as upstream's model; a UserError where it is missing."""
        return self._typed("environments", pk)

    def agent(self, pk: str) -> "AgentProfile":
        """Read a character as upstream's model; a UserError where it is missing."""
        return self._typed("agents", pk)

    def relationships(self) -> "list[RelationshipProfile]":
        """Read all relationships as upstream's models, in the order of their pk."""
        return self._typed_all("relationships")

    def combos(self) -> "list[EnvAgentComboStorage]":
        """Read all combos as upstream's models, in the order of their pk."""
        return self._typed_all("combos")

    def _typed(self, kind: ProfileKind, pk: str) -> Any:
        """Read one profile as upstream's model."""
        from sotopia_sdpo.store.upstream import typed_profile

        return typed_profile(kind, pk, self.get_profile(kind, pk), self.url)

    def _typed_all(self, kind: ProfileKind) -> list[Any]:
        """Read all profiles of a kind as upstream's models."""
        from sotopia_sdpo.store.upstream import typed_profile

        return [typed_profile(kind, profile["pk"], profile, self.url) for profile in self.profiles(kind)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
