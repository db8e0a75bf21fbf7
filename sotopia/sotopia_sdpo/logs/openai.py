"""Read chats in OpenAI's form, JSON lines or a list: `messages`, perhaps `tools`, and a reward, score or label."""

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
from sotopia_sdpo.logs.stream import records


def logged(record: Any, names: Sequence[str]) -> Logged:
    """Read one chat.

    Raises:
        Unusable: if it has no outcome.
    """
    chat = fields_of(record)
    messages = chat.get("messages")
    return Logged(
        messages,
        outcomes_of(chat, names),
        task_of(chat, messages),
        whole_number(chat.get("trial")),
        tools_of(chat.get("tools")),
        text_or_none(chat.get("model")),
    )


READER = Reader("openai", "messages", records, logged)
