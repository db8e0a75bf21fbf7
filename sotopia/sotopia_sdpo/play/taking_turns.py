"""A stage, on which two agents take turns for one session, and playing it to its end.

`stage.SotopiaStage` is one; CONTRIBUTING.md says how to add another.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session


Messages = list[list[tuple[str, str, str]]]
"""By turn: (sender, receiver, text), as an episode stores them."""
Choose = Callable[[int, Session], Awaitable[Action]]
"""Asks the agent at a position for its next action."""


class Stage(Protocol):
    """One session of two agents who take turns."""

    messages: Messages
    """What was said so far; the first turn tells either agent its background."""
    is_over: bool

    @property
    def session(self) -> Session:
        """What has happened so far."""

    @property
    def actor(self) -> int:
        """Whose turn it is, 0 or 1."""

    def play(self, action: Action) -> None:
        """Apply the action of the agent whose turn it is."""


async def run(stage: Stage, choose: Choose, history: Sequence[Action] = ()) -> None:
    """Play a history that is given, then ask until the session is over.

    Raises:
        ValueError: if the history goes on after the session is over.
    """
    for turn, action in enumerate(history):
        if stage.is_over:
            raise ValueError(f"the session is over after {turn} turns, but {len(history)} are to be replayed")
        stage.play(action)
    while not stage.is_over:
        stage.play(await choose(stage.actor, stage.session))
