"""Write dialogues as an annotator is shown them: blocks of numbered turns.

A turn is one JSON object a line, `{"index": 3, "who": "agent", "turn": {...}}`, where the index counts the turns of
`conversations` from 0. Invariant: nothing that was said can end a block or look like another turn.
"""

import json
from collections.abc import Sequence

from sotopia_sdpo.play.dialogue import Message
from sotopia_sdpo.text import whole_text


SPEAKERS = {"gpt": "agent", "human": "partner", "system": "system"}


def instructions(first_turn: Message) -> str:
    """Write what the agent was told, so that it cannot end the block it stands in."""
    return first_turn["value"].replace("</", "< /")


def numbered(conversations: Sequence[Message], start: int, end: int | None = None) -> str:
    """Write the turns from `start` to before `end`, a line each."""
    return "\n".join(
        json.dumps(
            {"index": index, "who": SPEAKERS[turn["from"]], "turn": _content(turn["value"])}, ensure_ascii=False
        ).replace("<", "\\u003c")
        for index, turn in list(enumerate(conversations))[start:end]
    )


def choices(conversations: Sequence[Message], start: int, end: int) -> str:
    """List the agent's own turns from `start` to before `end`."""
    return ", ".join(str(index) for index in range(start, end) if conversations[index]["from"] == "gpt")


def _content(value: str) -> object:
    """Return an action as the object it is, and any other text as it is."""
    try:
        found = whole_text(json.loads(value))
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) else value
