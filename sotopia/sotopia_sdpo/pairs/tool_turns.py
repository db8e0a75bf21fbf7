"""Read the turns in which an agent calls tools, and shorten what they hold for showing.

Comes in: the value of a `function_call` turn: a JSON list of calls, or what is said first and then the list between
the marks of the host. Goes out: the text and the calls. Invariant: what is in neither form stays the text that it is.
"""

import json
import re
from typing import Any, NamedTuple

from sotopia_sdpo.text import whole_text


SAID_AND_CALLS = re.compile(r"(?:(.*)\n)?<tool_call>(.*)</tool_call>\s*", re.DOTALL)
MOST_SHOWN = 1000
"""Characters of a result, or of a call's arguments, that an annotator sees."""


class Call(NamedTuple):
    """One call of a tool."""

    name: str
    arguments: Any


class ToolTurn(NamedTuple):
    """What an agent says and calls in one turn."""

    text: str
    calls: list[Call]


def tool_turn(value: str) -> ToolTurn:
    """Read a turn; one without readable calls is all text."""
    marked = SAID_AND_CALLS.fullmatch(value)
    text, written = (marked[1] or "", marked[2]) if marked else ("", value)
    try:
        found = whole_text(json.loads(written))
    except (ValueError, RecursionError):
        return ToolTurn(value, [])
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return ToolTurn(value, [])
    return ToolTurn(text, [Call(call["name"], _read(call.get("arguments"))) for call in calls])


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text, a long one without its middle, with a count of what was left out."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    return f"{text[:head]} [... {len(text) - head - tail:,} characters left out ...] {text[-tail:]}"


def _read(arguments: Any) -> Any:
    """Return the arguments of a call; some logs have them as JSON in a string."""
    try:
        return whole_text(json.loads(arguments)) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
