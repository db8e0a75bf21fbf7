"""A dialogue as training has it, and as a client sends it: OpenAI's messages, calls and tools.

function     {"role": "assistant", "content": TEXT or null, "tool_calls": [{"id", "type", "function"}, ...]}
observation  {"role": "tool", "tool_call_id", "content"}
arguments    JSON text, or the object itself
"""

import json
from collections.abc import Callable
from typing import Any

from ..data.calls import CLOSING, OPENING, read_calls
from ..data.reading import Message


Chat = list[dict[str, Any]]
Tools = list[dict[str, Any]] | None
Served = Callable[[Chat, Tools], list[int]]
"""The ids that a server makes of a chat's prompt."""


def chat_of(messages: list[Message], thought_end: str) -> Chat:
    """Return a dialogue of training as a client sends it."""
    chat: Chat = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        if message["role"] == "function":
            found = read_calls(message["content"], thought_end)
            waiting = [f"call_{number}_{index}" for index in range(len(found.calls))]
            calls = [
                {"id": name, "type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}}
                for name, call in zip(waiting, found.calls, strict=True)
            ]
            said = found.text if found.text.endswith(thought_end) else found.text.rstrip("\n")
            chat.append({"role": "assistant", "content": said or None, "tool_calls": calls})
        elif message["role"] == "observation":
            name = waiting.pop(0) if waiting else "call"
            chat.append({"role": "tool", "tool_call_id": name, "content": message["content"]})
        else:
            chat.append(dict(message))
    return chat


def read_arguments(chat: Chat) -> Chat:
    """Return a chat in which the arguments of calls are objects, as a server's engine hands them to its template.

    Raises:
        ValueError, TypeError, KeyError: for calls that are not in OpenAI's form.
    """
    return [
        {**message, "tool_calls": [{**call, "function": _read(call["function"])} for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in chat
    ]


def _read(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    return {**function, "arguments": json.loads(arguments or "{}") if isinstance(arguments, str) else arguments}


def dialogue_of(request: dict[str, Any]) -> tuple[list[Message], str]:
    """Return the messages of a request, whose contents are text, and the JSON of its tools, as training has them.

    Raises:
        ValueError, TypeError, KeyError: for calls that are not in OpenAI's form.
    """
    tools = json.dumps(request["tools"], ensure_ascii=False) if request.get("tools") else ""
    return [_message(message) for message in read_arguments(request["messages"])], tools


def _message(message: dict[str, Any]) -> Message:
    content = message.get("content") or ""
    if not message.get("tool_calls"):
        return {"role": "observation" if message["role"] == "tool" else message["role"], "content": content}
    calls = [{key: call["function"][key] for key in ("name", "arguments")} for call in message["tool_calls"]]
    text = json.dumps(calls, ensure_ascii=False)
    return {"role": "function", "content": f"{content}\n{OPENING}{text}{CLOSING}" if content else text}
