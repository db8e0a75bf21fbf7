"""Dialogues with tools, and ones that do not alternate, with which prompts and templates are tried.

They are in training's form. Contents, names and arguments hold what breaks quoting: quotes, line breaks, angle
brackets, characters beyond ASCII, the marks of calls and of thoughts, and values of every kind in JSON.
"""

import json
from typing import Any

from ..data.reading import Message


TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "find_flights",
                "description": 'Find flights; "direct" ones & cheap <b>too</b>, l\'été.',
                "parameters": {
                    "type": "object",
                    "properties": {
                        "origin": {"type": "string", "description": "A code, 'SFO'"},
                        "class": {"type": "string", "enum": ["economy", "business"], "description": "…"},
                        "legs": {"type": "array", "items": {"type": "integer"}},
                    },
                    "required": ["origin"],
                },
            },
        },
        {
            "type": "function",
            "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
        },
    ],
    ensure_ascii=False,
)
SYSTEM = "Book flights. Don't ask twice."


def _say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _call(*arguments: dict[str, Any], text: str = "") -> Message:
    calls = json.dumps([{"name": "find_flights", "arguments": each} for each in arguments], ensure_ascii=False)
    return _say("function", f"{text}\n<tool_call>{calls}</tool_call>" if text else calls)


_ASK = _say("user", 'From "Zürich" to LAX & back?')
_FIRST = {"origin": "ZRH", "class": None, "legs": [1, 2.5, -3], "note": "<tool_call>né</tool_call>\n\\ 'x' & \"y\" 🙂"}
_SECOND = {"origin": "LAX", "direct": True, "nested": {"b": {}, "a": ["</think>", False]}, "n": 12345678901234567890}
_RESULT, _OTHER = '{"flights": [{"no": "LX 38", "price": 420.50}]}', "Error: no flights\n<none>"
_ANSWER = _say("assistant", "LX 38 it is.\n")
_OPENING = _say("assistant", "Hello! How can I help?")

DIALOGUES: dict[str, tuple[list[Message], bool]] = {
    "one call": ([_ASK, _call(_FIRST), _say("observation", _RESULT), _ANSWER], True),
    "calls in a turn": ([_ASK, _call(_FIRST, _SECOND), _say("observation", _RESULT), _ANSWER], True),
    "text and call": ([_ASK, _call(_SECOND, text="Let me look."), _say("observation", _OTHER), _ANSWER], True),
    "results in a row": (
        [_ASK, _call(_FIRST, _SECOND), _say("observation", _RESULT), _say("observation", _OTHER), _ANSWER],
        True,
    ),
    "result, then partner": (
        [_ASK, _call(_FIRST), _say("observation", _RESULT), _say("user", "And back?"), _ANSWER],
        True,
    ),
    "agent first": ([_OPENING, _ASK, _ANSWER], False),
    "agent first, tools": ([_OPENING, _ASK, _call(_SECOND), _say("observation", _OTHER), _ANSWER], True),
}
"""By name: the messages, which end on an agent's turn, and whether there are tools."""
