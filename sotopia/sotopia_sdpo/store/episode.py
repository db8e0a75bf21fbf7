"""An episode as it is stored: upstream's EpisodeLog and what it lacks.

Comes in: the fields of an EpisodeLog, of ours or of both. Goes out: an Episode that agrees with itself, or its head,
which has no text. Invariant: only a scored episode has rewards, and then each agent has a verdict; the role is fixed
when an episode is read or made, so it keeps it under another tag.
"""

from datetime import UTC, datetime
from math import inf
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from sotopia_sdpo.errors import UserError, first_reason
from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.store.keys import EpisodeKey, combo_key
from sotopia_sdpo.store.tag import is_of_players, trial_in
from sotopia_sdpo.text import whole_text


Status = Literal["scored", "unscored", "failed"]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a column of a database takes."""
Reward = tuple[float, dict[str, float]]
"""One agent's verdict as upstream keeps it: the overall score and the seven dimensions by name."""


ENV, RANGE = "env", "outcome"
"""The settings with the environment's name, and with the name and range of its score."""


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
    agent_position: Int64 | None = None
    """Where the target agent sits: as given, else by the order in tag and models; None where both are it."""
    location: Int64 | None = None
    trial: Int64 = 0
    seed: Int64 | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    usage: dict[str, Any] = Field(default_factory=dict)
    created: datetime | None = Field(default_factory=lambda: datetime.now(UTC))
    """None where an imported episode does not say."""

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
        if self.agent_position is None and len(self.models) == 3 and self.models[1] != self.models[2]:
            # Published episodes do not say it. It is told once, so that no other tag makes it another role.
            self.agent_position = int(is_of_players(self.tag, self.models[2], self.models[1]))
        if not self.pk:
            self.pk = self.key.pk
        return self

    @property
    def key(self) -> EpisodeKey:
        """The piece of work that this is."""
        combo = combo_key(self.environment, self.agents, self.source_episode, self.location)
        return EpisodeKey(self.tag, combo, self.position, self.trial)

    @property
    def position(self) -> int:
        """Where the target agent sits; 0 where both are it, or nobody knows who plays."""
        return self.agent_position or 0

    @property
    def is_self_chat(self) -> bool:
        """Whether both sides are the target: one model on both, and no role recorded."""
        return self.agent_position is None and len(set(self.models[1:])) == 1

    @property
    def env(self) -> str | None:
        """The environment that played and scored it; None for a session of SOTOPIA, which a judge scores."""
        name = self.settings.get(ENV)
        return name if isinstance(name, str) else None

    @property
    def outcome(self) -> Outcome:
        """What a scored episode of an environment came to.

        Raises:
            UserError: if it does not say that in our form.
        """
        known, reward = self.settings.get(RANGE), self.rewards[0] if self.rewards else 0.0
        try:
            if isinstance(known, dict) and not isinstance(reward, float):
                return TypeAdapter(Outcome).validate_python({**known, "value": reward[0]})
            reason = f"expected name, low and high, found {str(known)[:60]}"
        except ValidationError as err:
            reason = first_reason(err)
        raise UserError(f"episode {self.pk} does not say what it came to ({RANGE}: {reason}); import it again")

    def players_from(self, position: int) -> tuple[str, str] | None:
        """Return the model at a position and the one at the other, without addresses; None where they are unknown."""
        if len(self.models) != 3:
            return None
        sides = [without_address(model) for model in self.models[1:]]
        return sides[position], sides[1 - position]

    @property
    def head(self) -> EpisodeHead:
        """The episode without its text."""
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


def has_verdicts(rewards: Any, agents: Any) -> bool:
    """Return whether every agent has an overall score with its dimensions, not upstream's bare 0.0 for "no answer"."""
    if not isinstance(rewards, list | tuple) or not isinstance(agents, list | tuple) or not agents:
        return False
    return len(rewards) == len(agents) and all(map(is_verdict, rewards))


def is_verdict(reward: Any) -> bool:
    """Return whether one agent's reward is an overall score with at least one dimension, all of them finite."""
    if not isinstance(reward, list | tuple) or len(reward) != 2 or not isinstance(reward[1], dict) or not reward[1]:
        return False
    # Not isfinite, which fails on integers beyond a float.
    return all(isinstance(score, int | float) and -inf < score < inf for score in (reward[0], *reward[1].values()))
