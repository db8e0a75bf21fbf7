"""Render a session as the chat that one of its two agents sees: the one rendering, for prompting and for training.

Comes in: what each agent was told, and the actions so far (turn t is agent t % 2's). Goes out: a chat that starts
with a human turn and alternates strictly; background and instructions stand in the first human turn, followed by the
partner's first action if the agent speaks second; every other turn is one JSON object.
Invariant: the chat only grows at its end, so a server's prefix cache holds for all that was sent before.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.actions import NONE_TEXT, Action, from_json, from_text


MAX_TURNS = 20
"""Turns of both agents together, as in SOTOPIA."""

SHIPPED = ("agent", "published")
"""The templates of the package: ours, and one in the structure of the published data."""
PARTS = ("first", "second")
"""Who sees a part, by position."""
PLACEHOLDERS = ("agent", "partner", "background", "max_turns", "first_action")
ENVIRONMENT = "Environment"
STARTS = "Conversation Starts:"
ACTION_START = re.compile(r'\{\s*"action_type"')

Message = dict[str, Any]
"""A turn of a chat: `role` and `content`, or `from` and `value` in ShareGPT form, perhaps with a `weight`."""
AGENT = ("gpt", "function_call")
PARTNER = ("human", "observation")
"""Whose turn it is in ShareGPT form: what the agent says or calls; what it is told, or what a call gave."""


class Session(NamedTuple):
    """An episode's text, without its scores."""

    names: tuple[str, str]
    backgrounds: tuple[str, str]
    """What each agent was told before the first turn."""
    actions: tuple[Action, ...]
    """By turn: agent 0 has the even ones."""


class Template:
    """The wording around the background, from a file that users can replace.

    Parts of it may depend on who speaks first: `{{#first}}…{{/first}}` is shown to the agent that does,
    `{{#second}}…{{/second}}` to the other one.
    """

    def __init__(self, text: str, source: str) -> None:
        """Check the placeholders.

        Raises:
            UserError: if one is unknown, or the background has no place.
        """
        self.text = text.strip()
        self.source = source
        try:
            self._texts = [
                prompts.choose_parts(self.text, {part: place == position for place, part in enumerate(PARTS)})
                for position in range(len(PARTS))
            ]
            for one in self._texts:
                prompts.check(one, PLACEHOLDERS)
        except ValueError as err:
            raise UserError(f"{source}: {err}") from err
        if not all("background" in prompts.PLACEHOLDER.findall(one) for one in self._texts):
            known = prompts.listed(PLACEHOLDERS)
            raise UserError(f"{source}: expected the placeholder {{{{background}}}}, found none; known are {known}")
        self.places_first_action = "first_action" in prompts.PLACEHOLDER.findall(self._texts[1])

    def __str__(self) -> str:
        return f"{self.source} ({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Name the wording in a few characters, as episodes store it."""
        return prompts.fingerprint(self.text)

    def fill(self, agent: str, partner: str, background: str, first_action: str, position: int) -> str:
        """Write the first human turn; the partner's first action goes to its placeholder, else to the end."""
        values = dict(agent=agent, partner=partner, background=background, first_action=first_action)
        values["max_turns"] = str(MAX_TURNS)
        text = prompts.fill(self._texts[position], values).rstrip()
        if not first_action or self.places_first_action:
            return text
        return f"{text}\n\n{first_action}"


def load_template(path: str | Path | None = None) -> Template:
    """Read a template file, or one of the package by its name, by default `agent`.

    Raises:
        UserError: if the file cannot be read, or is no template.
    """
    name = f"{path or SHIPPED[0]}"
    if name in SHIPPED and not Path(name).is_file():
        return Template(prompts.read(f"{name}.txt"), f"{name}.txt")
    try:
        return Template(Path(name).read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(
            f"{path}: cannot be read as a prompt template ({err}); give a UTF-8 text file, or {' or '.join(SHIPPED)}"
        ) from err


def chat_of(session: Session, position: int, template: Template) -> list[Message]:
    """Render the session as the agent at this position sees it, with roles `user` and `assistant`.

    The last turn is the partner's where it is the agent's turn to act, so this is also the prompt for the next action.
    """
    shown = [action.to_json() for action in session.actions]
    agent, partner = session.names[position], session.names[1 - position]
    first = shown[0] if position == 1 and shown else ""
    chat = [{"role": "user", "content": template.fill(agent, partner, session.backgrounds[position], first, position)}]
    for turn in range(position, len(shown)):
        chat.append({"role": "assistant" if turn % 2 == position else "user", "content": shown[turn]})
    return chat


def sharegpt_of(session: Session, position: int, template: Template, whole: bool = False) -> list[Message]:
    """Render the session as a ShareGPT dialogue that ends on the agent's own last turn.

    Args:
        session: what happened.
        position: whose dialogue it becomes.
        template: the wording of the first human turn.
        whole: keep a last turn of the partner's, which no training can use.
    """
    chat = chat_of(session, position, template)
    if not whole and chat[-1]["role"] == "user":
        chat.pop()
    sides = {"user": "human", "assistant": "gpt"}
    return [{"from": sides[message["role"]], "value": message["content"]} for message in chat]


def turn_at(location: int, position: int, has_system: bool = False) -> int:
    """Return which turn of the session stands at an index of the agent's dialogue."""
    return location - has_system - 1 + position


def background_of(text: str) -> str:
    """Return the background in an agent's first observation."""
    return text.strip().removesuffix(STARTS).strip()


def session_of(messages: Sequence[Sequence[tuple[str, str, str]]]) -> Session:
    """Read a session back from the messages of a stored episode.

    Raises:
        ValueError: if these are not the messages of two agents who take turns; the text says which turn.
    """
    told = [(receiver, text) for sender, receiver, text in (messages[0] if messages else ()) if sender == ENVIRONMENT]
    if len(told) != 2 or told[0][0] == told[1][0]:
        raise ValueError(f"turn 0: expected an observation for each of two agents, found {len(told)}")
    names = (told[0][0], told[1][0])
    actions = []
    for turn, items in enumerate(messages):
        done = {sender: text for sender, receiver, text in items if sender in names and receiver == ENVIRONMENT}
        if not done and turn == len(messages) - 1:
            break
        actor, other = names[turn % 2], names[1 - turn % 2]
        if actor not in done or done.get(other, NONE_TEXT) != NONE_TEXT:
            raise ValueError(f"turn {turn}: expected an action of {actor} and none of {other}, found {sorted(done)}")
        try:
            actions.append(from_text(done[actor]))
        except ValueError as err:
            raise ValueError(f"turn {turn}: {err}") from err
    return Session(names, (background_of(told[0][1]), background_of(told[1][1])), tuple(actions))


def check_location(conversations: Sequence[Message], location: int) -> None:
    """Check that an index of a ShareGPT dialogue is one of the agent's own turns.

    Raises:
        ValueError: if it is not; the text says what is there.
    """
    if not 0 <= location < len(conversations):
        raise ValueError(f"location {location} is not in the dialogue of {len(conversations)} turns")
    if (found := conversations[location].get("from")) not in AGENT:
        raise ValueError(f"location {location} is a {found!r} turn, expected 'gpt'")


def actions_before(
    conversations: Sequence[Message], location: int, position: int, first: Action | None = None
) -> list[Action]:
    """Read the actions of both sides before the agent's turn at `location` of a ShareGPT dialogue.

    Args:
        conversations: the agent's dialogue, rendered by `sharegpt_of`.
        location: an index of it.
        position: where the agent sits.
        first: the partner's first action, where it is known; else it is read from the first human turn.

    Raises:
        ValueError: if the location is no `gpt` turn of it, or a turn is not in our form; the text says which.
    """
    check_location(conversations, location)
    start = int(conversations[0].get("from") == "system")
    actions = [first or first_action_of(conversations[start].get("value", ""))] if position == 1 else []
    for index in range(start + 1, location):
        expected = ("human", "gpt")[(index - start) % 2]
        if conversations[index].get("from") != expected:
            raise ValueError(f"turn {index} is a {conversations[index].get('from')!r} turn, expected {expected!r}")
        try:
            actions.append(from_json(conversations[index].get("value", "")))
        except ValueError as err:
            raise ValueError(f"turn {index}: {err}") from err
    if len(actions) != turn_at(location, position, bool(start)):
        raise ValueError(f"location {location} cannot be a turn of agent {position}")
    return actions


def first_action_of(text: str) -> Action:
    """Read the partner's first action at the end of the first human turn.

    Raises:
        ValueError: if it does not end on one.
    """
    return from_json(text[first_action_start(text) :].rstrip())


def first_action_start(text: str) -> int:
    """Return where the partner's first action begins at the end of the first human turn.

    Raises:
        ValueError: if it does not end on one.
    """
    text = text.rstrip()
    # An action whose type comes last is only found as the object on the last line.
    starts = [*(found.start() for found in ACTION_START.finditer(text))][-1:]
    starts.append(max(text.rfind("\n{") + 1 or text.rfind("{"), 0))
    for start in starts:
        try:
            from_json(text[start:])
        except ValueError as err:
            fault = err
        else:
            return start
    raise ValueError(f"the first human turn does not end on the partner's first action ({fault})") from fault
