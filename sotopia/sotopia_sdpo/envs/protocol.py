"""What an environment is: one agent acts by text, the environment answers, and scores the agent itself.

CONTRIBUTING.md says how to add one; `game.py` is a small one, `scienceworld.py` a real one. Invariant: after the same
reset, the same actions give the same observations and the same score, so a list of actions replays to any step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

from sotopia_sdpo.outcomes import Outcome


Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class Quest(NamedTuple):
    """What an environment asks of its agent; as text, `find-plant/12`."""

    kind: str
    variation: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.variation}"


class Opening(NamedTuple):
    """What the agent is told at first."""

    task: str
    """What it is to do."""
    observation: str


class Reply(NamedTuple):
    """What an action leads to."""

    observation: str
    reward: float
    """By how much the score has changed."""
    is_over: bool


class Environment(Protocol):
    """One instance, which plays one quest at a time. Its methods may block; one thread at a time calls them.

    What they raise is a failure of the episode that is played, and the instance is not used again.
    """

    settings: Mapping[str, Any]
    """What decides how it plays, such as simplifications; episodes record it, and those of one tag agree in it."""
    commands: str
    """Which actions there are, in a line or a few, for the prompt."""
    max_actions: int
    """After how many actions an episode is over, unless the user says otherwise; the class has it too."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of quests that there are."""

    def variations(self, kind: str, split: Split) -> Sequence[int]:
        """Return the variations of a kind in a split."""

    def reset(self, quest: Quest) -> Opening:
        """Begin a quest."""

    def act(self, action: str) -> Reply:
        """Do one action; an action that is impossible or no action at all gets an answer too."""

    def score(self) -> Outcome:
        """Return what the quest has come to so far, with its range; the highest value is a quest that is solved."""

    def gold(self, quest: Quest) -> Sequence[str] | None:
        """Return actions that solve a quest; None where none are known. What was begun may be lost."""

    def close(self) -> None:
        """Let go of processes and files; called once, perhaps while a method still runs in another thread."""
