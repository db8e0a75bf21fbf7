"""The seam to upstream: its environment, its end rules and its dimensions, and nothing else of it.

Comes in: a scenario and two characters in upstream's models. Goes out: a SotopiaStage that plays one session as
upstream's own loop would, turn by turn. Upstream's storage is not used. Importing upstream takes seconds, so it
happens on first use; what an upgrade moved fails here.
"""

import importlib
import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from sotopia_sdpo.play.actions import ACTION_TYPES, NONE, Action
from sotopia_sdpo.play.dialogue import ENVIRONMENT, MAX_TURNS, Session, background_of
from sotopia_sdpo.play.taking_turns import Messages
from sotopia_sdpo.store.upstream import upstream_models


if TYPE_CHECKING:
    from sotopia.database import AgentProfile, EnvironmentProfile

MAX_STALE_TURNS = 2
LOCAL_PRICES = "LITELLM_LOCAL_MODEL_COST_MAP"


@cache
def describe(dimension: str) -> str:
    """Return upstream's description of a dimension."""
    _prepare()
    from sotopia.database import SotopiaDimensions

    return SotopiaDimensions.model_fields[dimension].description or ""


def load() -> None:
    """Import all that a SotopiaStage needs, which takes seconds."""
    _prepare()
    importlib.import_module("sotopia.envs.parallel")


def upstream_cli(arguments: Sequence[str]) -> None:
    """Run a command of upstream's own."""
    _prepare()
    from sotopia.cli import app

    app(list(arguments), prog_name="sotopia")


def _prepare() -> None:
    """Import upstream on our storage, and keep litellm from fetching its price list, which the package has as well."""
    os.environ.setdefault(LOCAL_PRICES, "True")
    upstream_models()


class SotopiaStage:
    """One session in upstream's environment, and what upstream's loop would have recorded of it."""

    def __init__(self, scenario: "EnvironmentProfile", characters: "Sequence[AgentProfile]") -> None:
        """Set the stage: both agents are told their backgrounds, nobody has acted.

        Raises:
            ValueError: if upstream, which knows everybody by name, could not tell the two apart.
        """
        _prepare()
        from sotopia.agents import Agents
        from sotopia.agents.base_agent import BaseAgent
        from sotopia.envs.evaluators import RuleBasedTerminatedEvaluator
        from sotopia.envs.parallel import ParallelSotopiaEnv

        self.agents = [BaseAgent[Any, Any](agent_profile=character) for character in characters]
        self.env = ParallelSotopiaEnv(
            available_action_types=set(ACTION_TYPES),
            action_order="round-robin",
            evaluators=[RuleBasedTerminatedEvaluator(max_turn_number=MAX_TURNS, max_stale_turn=MAX_STALE_TURNS)],
            env_profile=scenario,
        )
        self.names = (self.agents[0].agent_name, self.agents[1].agent_name)
        if self.names[0] == self.names[1]:
            raise ValueError(f"both characters are called {self.names[0]!r}; upstream tells them apart by name")
        self.actions: list[Action] = []
        self.messages: Messages = []
        self.is_over = False
        observations = self.env.reset(agents=Agents({agent.agent_name: agent for agent in self.agents}))
        self._observe(observations)
        told = [background_of(observations[name].to_natural_language()) for name in self.names]
        self.backgrounds = (told[0], told[1])

    @property
    def session(self) -> Session:
        """What has happened so far."""
        return Session(self.names, self.backgrounds, tuple(self.actions))

    @property
    def actor(self) -> int:
        """Whose turn it is."""
        return len(self.actions) % 2

    def play(self, action: Action) -> None:
        """Apply the action of the agent whose turn it is; the other one watches."""
        from sotopia.messages import AgentAction

        pair = [NONE, NONE]
        pair[self.actor] = action
        moves = {name: AgentAction(**move._asdict()) for name, move in zip(self.names, pair, strict=True)}
        told = f"{self.names[self.actor]} {action.to_text()}" if action != NONE else ""
        self.messages[-1] += [(name, ENVIRONMENT, moves[name].to_natural_language()) for name in self.names]
        observations, _, terminated, _, _ = self.env.step(moves)
        for observation in observations.values():
            # Upstream reads what is said as XML, which swallows words in angle brackets.
            observation.last_turn = told
        self._observe(observations)
        self.actions.append(action)
        self.is_over = all(terminated.values())

    def _observe(self, observations: dict[str, Any]) -> None:
        """Deliver the observations to both inboxes and record them."""
        for agent in self.agents:
            agent.recv_message(ENVIRONMENT, observations[agent.agent_name])
        self.messages.append([(ENVIRONMENT, name, observations[name].to_natural_language()) for name in self.names])
