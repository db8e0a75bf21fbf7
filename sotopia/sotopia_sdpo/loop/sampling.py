"""What the loop asks of the world that its agent acts in.

That is sessions of SOTOPIA (`sessions.py`), or quests of an environment (`quests.py`).
"""

from pathlib import Path
from typing import Protocol

from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.make.steps import Command, Service, Step


class Sampling(Protocol):
    """Makes the commands that sample episodes."""

    wording: tuple[str, ...]
    """Options of all scripts that say how turns are worded."""

    def experts(self) -> Step:
        """Return the step that samples what the agent is first trained on."""

    def of_experts(self) -> tuple[str, ...]:
        """Return the options that pick the episodes of that step, in later ones."""

    def episodes(self, agent: Agent, task: str, tag: str, *options: str) -> Command:
        """Return what samples an agent.

        Args:
            agent: the agent.
            task: sft, neg, pos, hpos, or that of the evaluation.
            tag: of the episodes.
            options: more of the command's options.
        """

    def continuations(self, agent: Agent, script_name: str, tag: str, *options: str) -> Command:
        """Return a script of dpo/ that has an agent play on.

        Args:
            agent: the agent.
            script_name: its name.
            tag: of the continuations.
            options: more of its options.
        """

    def players(self, agent: Agent) -> tuple[Service, ...]:
        """Return the servers of those who play, and judge, with this agent."""

    def reads(self) -> tuple[Path, ...]:
        """Return the files that sampling reads besides those of the steps."""
