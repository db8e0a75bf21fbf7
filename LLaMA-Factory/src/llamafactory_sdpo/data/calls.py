"""Read the calls of an agent's turn, and the tools of a dialogue, into one spelling each.

    [{"name": ..., "arguments": {...}}, ...]                  calls; one may stand without the list
    TEXT<tool_call>[...]</tool_call>                          calls after what the agent says, a thought maybe

Tools are written in OpenAI's form and order of keys, since a server's engine writes those of a request so.
"""

import json
import re
from typing import Any, NamedTuple


OPENING, CLOSING = "<tool_call>", "</tool_call>"
"""The host's marks around calls that follow a text; a template may have words of its own for them."""

TOOL_KEYS = ("name", "description", "parameters", "strict")


class Calls(NamedTuple):
    """What an agent says in a turn, and the calls that follow it.

    Attributes:
        text: ends on one line break or on the end of a thought; or is empty.
        calls: {"name": text, "arguments": object}, at least one.
    """

    text: str
    calls: list[dict[str, Any]]

    @property
    def json(self) -> str:
        """The calls as JSON in which none of a template's marks can stand: no `<`, and nothing that is not ASCII."""
        return json.dumps(self.calls).replace("<", "\\u003c")


def read_calls(content: str, thought_end: str) -> Calls:
    """Read a turn of calls.

    Args:
        content: as above; a whole thought may also stand right before the JSON.
        thought_end: the words that end a thought.

    Raises:
        ValueError, TypeError, KeyError: if it is spelled otherwise.
    """
    text, found = _split(content, thought_end)
    calls = found if isinstance(found, list) else [found]
    if not calls:
        raise ValueError("an empty list of calls")
    for call in calls:
        if not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
            raise TypeError("the name of a call is a text, its arguments are an object")
    return Calls(
        separated(text, thought_end), [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    )


def _split(content: str, thought_end: str) -> tuple[str, Any]:
    """Return the text before the calls, and their JSON read."""
    whole = content.rstrip()
    ends = [0]
    if whole.endswith(CLOSING):
        whole = whole.removesuffix(CLOSING)
        # The arguments may hold a mark as well, so the first one after which all is JSON is it.
        ends = [match.end() for match in re.finditer(re.escape(OPENING), whole)]
    elif thought_end in content:
        ends = [0, content.index(thought_end) + len(thought_end)]
    for end in ends:
        try:
            return whole[:end].removesuffix(OPENING), json.loads(whole[end:])
        except json.JSONDecodeError:
            continue
    raise ValueError(f"no JSON, alone or between {OPENING} and {CLOSING} at the end")


def separated(text: str, thought_end: str) -> str:
    """Return what an agent says before its calls, ended as it is before them."""
    if not text.strip("\n"):
        return ""
    return text if text.endswith(thought_end) else text.rstrip("\n") + "\n"


def canonical_tools(tools: str) -> str:
    """Return the JSON of tools in one spelling, '' if there are none; what is not a list of objects as it is.

    Raises:
        TypeError: for a tool without a name.
    """
    try:
        found = json.loads(tools) if tools else []
    except json.JSONDecodeError:
        return tools
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        return tools
    return json.dumps([_canonical(tool) for tool in found], ensure_ascii=False) if found else ""


def _canonical(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"] if isinstance(tool.get("function"), dict) else tool
    if not isinstance(function.get("name"), str):
        raise TypeError("a tool has no name")
    known = {key: function.get(key) for key in TOOL_KEYS}
    others = {key: value for key, value in function.items() if (key, value) != ("type", "function")}
    return {
        "type": "function",
        "function": {key: value for key, value in (known | others).items() if value is not None},
    }
