"""What decides how a session goes, apart from the scenario and the characters."""

from typing import NamedTuple

from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Template


class Player(NamedTuple):
    """Who plays at a position, and how its answers are drawn."""

    model: ModelSpec
    temperature: float
    top_p: float | None = None
    top_k: int | None = None


class Script(NamedTuple):
    """All that decides how a session goes."""

    players: tuple[Player, Player]
    template: Template
    seed: int
    affinity: str
    """Names the session, so that its calls go where their prefix is cached."""
    history: tuple[Action, ...] = ()
    """What is replayed first, by turn."""
