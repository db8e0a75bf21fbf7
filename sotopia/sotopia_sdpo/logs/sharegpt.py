"""Read ShareGPT dialogues with a score: `conversations`, perhaps `system`, `tools`, and a reward, score or label."""

from collections.abc import Sequence
from typing import Any

from sotopia_sdpo.logs.logged import (
    Logged,
    Reader,
    fields_of,
    outcomes_of,
    task_of,
    text_or_none,
    tools_of,
    whole_number,
)
from sotopia_sdpo.logs.messages import NOT_JSON, Unusable
from sotopia_sdpo.logs.stream import records
from sotopia_sdpo.pairs.tool_turns import tool_turn


ROLES = {
    **{"system": "system", "human": "user", "user": "user", "observation": "tool", "tool": "tool"},
    **{"gpt": "assistant", "assistant": "assistant", "function_call": "assistant"},
}


def logged(record: Any, names: Sequence[str]) -> Logged:
    """Read one dialogue.

    Raises:
        Unusable: if it has no outcome, or a turn is none of ShareGPT's.
    """
    dialogue = fields_of(record)
    turns = dialogue.get("conversations")
    messages = [_message(turn) for turn in turns] if isinstance(turns, list) else None
    if messages and (system := text_or_none(dialogue.get("system"))):
        messages = [{"role": "system", "content": system}, *messages]
    return Logged(
        messages,
        outcomes_of(dialogue, names),
        task_of(dialogue, messages),
        whole_number(dialogue.get("trial")),
        tools_of(dialogue.get("tools")),
        text_or_none(dialogue.get("model")),
    )


def _message(turn: Any) -> dict[str, Any]:
    """Return a turn as a message of OpenAI's."""
    tag = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(tag, str) or tag not in ROLES:
        raise Unusable("with a message of an unknown role")
    message = {"role": ROLES[tag], "content": turn.get("value"), "weight": turn.get("weight")}
    if tag != "function_call":
        return message
    text, calls = tool_turn(str(turn.get("value")))
    if not calls:
        raise Unusable(NOT_JSON)
    return {**message, "content": text, "tool_calls": [call._asdict() for call in calls]}


READER = Reader("sharegpt", "conversations", records, logged)
