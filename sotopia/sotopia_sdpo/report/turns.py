"""What a page shows of a dialogue: speech and actions, the background, and who is who.

Comes in: conversations of a record. Goes out: turns, names and the scenario, as far as the text tells them.
Invariant: no turn is lost: what is not in our form is shown as the text that it is.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.pairs.blocks import SPEAKERS
from sotopia_sdpo.pairs.records import starts_at
from sotopia_sdpo.pairs.tool_turns import tool_turn
from sotopia_sdpo.play.actions import from_json
from sotopia_sdpo.play.dialogue import AGENT, Message, first_action_start
from sotopia_sdpo.play.wording import PARTICIPANTS


PARTNER = SPEAKERS["human"]
PLAIN = "text"
"""The kind of a turn that is not in our form."""
CALLS, RESULT = "calls", "result"
"""The kinds of turns of tools: what is called, as JSON, and what one call gave."""

SCENARIO = re.compile(r"^[ \t]*Scenario:[ \t]*(\S.*?)\s*$", re.MULTILINE)
WORD = r"[A-ZÀ-ÖØ-Þ][\w'’-]*"
YOU_ARE = re.compile(rf"\b[Yy]ou are ({WORD}(?: {WORD})*)")


class ShownTurn(NamedTuple):
    """Who does what in one turn of a dialogue."""

    who: str
    kind: str
    """An action type, `text`, `calls` or `result`."""
    text: str


class Line(NamedTuple):
    """A line of the page: a shown turn with the index of its message in the conversations."""

    at: int
    who: str
    kind: str
    text: str


class Opening(NamedTuple):
    """What the first human turn holds; in a log, the system turn."""

    at: int
    """The index of that turn; -1 where there is none."""
    background: str
    first: ShownTurn | None
    """The partner's first action, which ends the background of an agent that speaks second."""


class Names(NamedTuple):
    """Who speaks, empty where the text does not say."""

    agent: str = ""
    partner: str = ""


def turn_of(message: Message) -> ShownTurn:
    """Read one turn after the first."""
    who, text = SPEAKERS[message["from"]], message["value"]
    if message["from"] == "observation":
        return ShownTurn(who, RESULT, text)
    try:
        if message["from"] != "function_call":
            return _act(who, text)
        said, calls = tool_turn(text)
        found = {"says": said, "calls": [call._asdict() for call in calls]}
        # A page reads no NaN.
        written = json.dumps(found, ensure_ascii=False, allow_nan=False)
        return ShownTurn(who, CALLS, written) if calls else ShownTurn(who, PLAIN, text)
    except (ValueError, RecursionError):
        return ShownTurn(who, PLAIN, text)


def _act(who: str, text: str) -> ShownTurn:
    """Read an action; one whose type is called like one of a page's own kinds is text.

    Raises:
        ValueError: if it is none.
    """
    action = from_json(text)
    return ShownTurn(who, PLAIN, text) if action.action_type in (PLAIN, CALLS, RESULT) else ShownTurn(who, *action)


def opening_of(conversations: Sequence[Message], position: int | None, is_logged: bool = False) -> Opening:
    """Split the first human turn into the background and the partner's first action.

    Args:
        conversations: the dialogue of one agent.
        position: the agent's position; None where the file does not have it, then the text decides.
        is_logged: whether the dialogue comes out of a log, where the background is the system turn.
    """
    at = starts_at(conversations)
    if is_logged or conversations[at]["from"] in AGENT:
        return Opening(at - 1, conversations[0]["value"].strip() if at else "", None)
    text = conversations[at]["value"]
    start = _first_action_start(text, position) if position != 0 else None
    if start is None:
        return Opening(at, text.strip(), None)
    return Opening(at, text[:start].strip(), _act(PARTNER, text[start:].rstrip()))


def lines_of(conversations: Sequence[Message], opening: Opening, with_background: bool) -> list[Line]:
    """List what is said and done, the partner's first action and a system message among it.

    Args:
        conversations: the dialogue of one agent.
        opening: how it begins.
        with_background: make the background a line too.
    """
    lines = []
    for index, message in enumerate(conversations):
        if index != opening.at:
            lines.append(Line(index, *turn_of(message)))
            continue
        if with_background:
            lines.append(Line(index, SPEAKERS[message["from"]], PLAIN, opening.background))
        if opening.first:
            lines.append(Line(index, *opening.first))
    return lines


def _first_action_start(text: str, position: int | None) -> int | None:
    """Find the partner's first action; where the position is not known, it must have a line of its own, as in ours."""
    try:
        start = first_action_start(text)
    except (ValueError, RecursionError):
        return None
    return start if position == 1 or text[:start].endswith("\n") else None


def scenario_of(background: str) -> str:
    """Read the line of the scenario; empty where there is none."""
    found = SCENARIO.search(background)
    return found[1] if found else ""


def names_of(background: str, position: int | None) -> Names:
    """Read who is who, from the line of the participants and from what the agent is told to be."""
    told = YOU_ARE.search(background)
    both = PARTICIPANTS.search(background)
    if not both:
        return Names(told[1]) if told else Names()
    is_told = [re.search(rf"\byou are {re.escape(name)}\b", background, re.IGNORECASE) for name in both.groups()]
    if bool(is_told[0]) != bool(is_told[1]):
        position = 0 if is_told[0] else 1
    return Names(both[1 + position], both[2 - position]) if position is not None else Names()
