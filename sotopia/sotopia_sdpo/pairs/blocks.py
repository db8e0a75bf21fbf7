"""Write dialogues as an annotator is shown them: blocks of numbered turns.

A turn is one JSON object a line, `{"index": 3, "who": "agent", "turn": {...}}`, where the index counts the turns of
`conversations` from 0. Invariant: nothing that was said can end a block or look like another turn.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.pairs.records import DialogueRecord, LoggedSide, starts_at
from sotopia_sdpo.pairs.tool_turns import MOST_SHOWN, Call, shortened, tool_turn
from sotopia_sdpo.play.dialogue import AGENT, Message
from sotopia_sdpo.text import one_line, whole_text


SPEAKERS = {"gpt": "agent", "function_call": "agent", "human": "partner", "observation": "tool", "system": "system"}
MOST_SHOWN_NAME = 80


class Opening(NamedTuple):
    """What comes before the turns that are numbered."""

    told: str
    """What the agent was told before the conversation."""
    first: int
    """The index of the first turn after that."""


def opening_of(record: DialogueRecord) -> Opening:
    """Return what the agent was told: by the system turn of a log, by the first human turn of SOTOPIA."""
    turns = record.conversations
    start = starts_at(turns)
    if isinstance(record, LoggedSide) or turns[start]["from"] in AGENT:
        return Opening(turns[0]["value"] if start else "", start)
    return Opening(turns[start]["value"], start + 1)


def unended(text: str) -> str:
    """Write a text so that it cannot end the block it stands in."""
    return text.replace("</", "< /")


def tools_line(record: DialogueRecord) -> str:
    """Name the tools that the agent may call, in a paragraph of its own; empty where they are not known."""
    tools = record.tools or [] if isinstance(record, LoggedSide) else []
    inner = [tool["function"] if isinstance(tool.get("function"), dict) else tool for tool in tools]
    names = [tool.get("name") for tool in inner]
    listed = ", ".join(one_line(str(name), MOST_SHOWN_NAME) for name in names if name)
    return f"\n\nThe tools that the agent may call: {unended(listed)}." if listed else ""


def numbered(conversations: Sequence[Message], start: int, end: int | None = None) -> str:
    """Write the turns from `start` to before `end`, a line each."""
    return "\n".join(
        json.dumps(
            {"index": index, "who": SPEAKERS[turn["from"]], "turn": _content(turn)}, ensure_ascii=False
        ).replace("<", "\\u003c")
        for index, turn in list(enumerate(conversations))[start:end]
    )


def choices(conversations: Sequence[Message], start: int, end: int) -> str:
    """List the agent's own turns from `start` to before `end`."""
    return ", ".join(str(index) for index in range(start, end) if conversations[index]["from"] in AGENT)


def _content(turn: Message) -> object:
    """Return calls and an action as the objects they are, a long result shortened, and any other text as it is."""
    value = turn["value"]
    if turn["from"] == "function_call":
        said, calls = tool_turn(value)
        shown = {"says": said} if said else {}
        return {**shown, "calls": list(map(_call, calls))} if calls else shortened(said)
    if turn["from"] == "observation" and len(value) > MOST_SHOWN:
        return shortened(value)
    try:
        found = whole_text(json.loads(value))
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) else value


def _call(call: Call) -> dict[str, object]:
    written = json.dumps(call.arguments, ensure_ascii=False)
    return {"name": call.name, "arguments": call.arguments if len(written) <= MOST_SHOWN else shortened(written)}
