"""What happened between one agent and its environment: the one form, for prompting, storing and training alike.

Comes in: an opening, and actions with their observations. Goes out: the chat that the agent is prompted with, the
messages that an episode stores, a dialogue in ShareGPT form; and a Walk out of stored messages. What is stored is the
text of every turn as it was prompted, so rendering needs neither the environment nor a template.
Invariant: `walk_of(messages_of(walk)) == walk`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.envs.protocol import Opening
from sotopia_sdpo.play.dialogue import ENVIRONMENT, Message
from sotopia_sdpo.play.taking_turns import Messages
from sotopia_sdpo.text import whole_text


AGENT = "Agent"
PROMPT = "quest.txt"
NO_ACTION = "(no action)"
"""Stands for an answer without any text, in all its forms, so that a replay repeats it."""
NO_ACTION_TOLD = "You did nothing. An action is one line of text."


class Walk(NamedTuple):
    """An agent's actions and what it was told: first its quest, then what came of each action."""

    told: tuple[str, ...]
    """One more than there are actions."""
    actions: tuple[str, ...] = ()

    def then(self, action: str, observation: str) -> "Walk":
        """Return the walk with one more action."""
        return Walk((*self.told, observation), (*self.actions, action))

    def before(self, turn: int) -> "Walk":
        """Return the walk up to where the agent chooses the action of this number."""
        return Walk(self.told[: turn + 1], self.actions[:turn])


def first_turn(opening: Opening, commands: str) -> str:
    """Write the first human turn."""
    return prompts.fill(prompts.read(PROMPT), {**opening._asdict(), "commands": commands})


def fingerprint() -> str:
    """Name the wording of the first human turn, as episodes store it."""
    return prompts.fingerprint(prompts.read(PROMPT))


def action_of(answer: str) -> str:
    """Return the action in a model's answer: its first line that has text."""
    lines = (line.strip() for line in str(whole_text(answer)).splitlines())
    return next(filter(None, lines), NO_ACTION)


def chat_of(walk: Walk) -> list[Message]:
    """Render a walk as the prompt for the next action; when all is over, its last turn is what the agent is told."""
    turns = [{"role": "user", "content": walk.told[0]}]
    for action, observation in zip(walk.actions, walk.told[1:], strict=True):
        turns += [{"role": "assistant", "content": action}, {"role": "user", "content": observation}]
    return turns


def sharegpt_of(walk: Walk) -> list[Message]:
    """Render a walk as a ShareGPT dialogue that ends on the agent's last action."""
    sides = {"user": "human", "assistant": "gpt"}
    return [{"from": sides[turn["role"]], "value": turn["content"]} for turn in chat_of(walk)[:-1]]


def turn_of(location: int) -> int:
    """Return the number of the agent's action that stands at an index of its dialogue."""
    return (location - 1) // 2


def messages_of(walk: Walk) -> Messages:
    """Write a walk as the messages of an episode: a turn is what the agent is told and, but for the last, does."""
    messages: Messages = [[(ENVIRONMENT, AGENT, text)] for text in walk.told]
    for turn, action in zip(messages, walk.actions, strict=False):
        turn.append((AGENT, ENVIRONMENT, action))
    return messages


def walk_of(messages: Sequence[Sequence[tuple[str, str, str]]]) -> Walk:
    """Read a walk back from the messages of a stored episode.

    Raises:
        ValueError: if these are not the messages of an agent and its environment; the text says which turn.
    """
    expected = [(ENVIRONMENT, AGENT), (AGENT, ENVIRONMENT)]
    for number, turn in enumerate(messages):
        wanted = expected[:1] if number == len(messages) - 1 else expected
        if [(sender, receiver) for sender, receiver, _ in turn] != wanted:
            raise ValueError(f"turn {number}: expected what the agent is told, and what it does, found {list(turn)}")
    if not messages:
        raise ValueError("it has no turns")
    return Walk(tuple(turn[0][2] for turn in messages), tuple(turn[1][2] for turn in messages[:-1]))
