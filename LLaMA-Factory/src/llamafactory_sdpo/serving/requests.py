"""Check the requests to a server on the host's own engine, before the host sees them.

What training never saw (pictures, a chat that ends on an agent's turn, what the template has no form for), values that
no model takes, and prompts that are longer than the model's context are refused with status 400, another model's name
with 404: each at once, so that no request keeps the server from the others.

The host takes only chats that alternate, so a chat passes through it as the text of one turn (`host.serving.packed`).
"""

import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from ..data.reading import Message as Turn
from ..data.rendering import RENDERING_ERRORS
from ..errors import UserError, one_line
from .chats import dialogue_of


CHAT, TOKENIZE = "/v1/chat/completions", "/tokenize"
ROLES = ("system", "user", "assistant", "tool")

BYTES_PER_TOKEN = 32
MIN_BODY_BYTES = 1 << 16
"""A body may have so many bytes for each token of the context; escaped text takes six for a character."""

MAX_ANSWERS = 128
HUGE = sys.float_info.max
RANGES: dict[str, tuple[type | tuple[type, ...], float, float, str]] = {
    "temperature": ((int, float), 0, HUGE, "a number of at least 0"),
    "top_p": ((int, float), math.ulp(0.0), 1, "a number above 0 and at most 1"),
    "presence_penalty": ((int, float), 0, HUGE, "a number of at least 0"),
    "max_tokens": (int, 1, HUGE, "a whole number of at least 1"),
    "seed": (int, -(2**63), 2**63 - 1, "a whole number of 64 bits"),
    "n": (int, 1, MAX_ANSWERS, f"a whole number from 1 to {MAX_ANSWERS}"),
}
"""Options of a request: type, smallest and largest value, and both in words."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PromptIds = Callable[[list[Turn], str], list[int]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Limits(NamedTuple):
    """What a server takes.

    Attributes:
        names: of its models.
        key: that clients must send, or nothing.
        context: tokens of prompt and answer.
    """

    names: list[str]
    key: str
    context: int

    @property
    def body_bytes(self) -> int:
        """The longest body."""
        return max(MIN_BODY_BYTES, BYTES_PER_TOKEN * self.context)


class Refused(Exception):
    """A request that is not answered, with its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def read_chat(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return a chat of plain texts that the host can answer.

    Raises:
        Refused: with what is wrong.
    """
    try:
        chat = json.loads(body)
        json.dumps(chat, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused("the body holds half of a surrogate pair, which is no character") from None
    except (ValueError, RecursionError):
        raise Refused("the body is not JSON") from None
    if not isinstance(chat, dict):
        raise Refused("the body is not a JSON object")
    name = chat.get("model")
    if name is not None and name not in limits.names:
        raise Refused(f"the model {str(name)[:200]!r} does not exist; expected {' or '.join(limits.names)}", 404)
    if chat.get("functions"):
        raise Refused("functions are not taken; send them as tools")
    tools = chat.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise Refused("tools is not a list of objects")
    if tools and chat.get("stream"):
        raise Refused("calls are not streamed; ask without stream")
    _check_options(chat, limits.context)
    return {**chat, "messages": _messages(chat.get("messages"))}


def _check_options(chat: dict[str, Any], context: int) -> None:
    for option, (kind, smallest, largest, words) in RANGES.items():
        value = chat.get(option)
        is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
        # NaN and infinity are in no range.
        if value is not None and not (is_of_kind and smallest <= value <= largest):
            raise Refused(f"{option} is {str(value)[:50]}, expected {words}")
    if (chat.get("max_tokens") or 0) > context:
        raise Refused(f"max_tokens is more than the context of {context} tokens")
    if chat.get("presence_penalty") == 0:
        # The host takes it for a factor, whose neutral value is 1.
        del chat["presence_penalty"]


def _messages(messages: Any) -> list[dict[str, Any]]:
    """Return messages, each with one text, that end before the agent's turn."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Refused("messages is not a list of objects")
    for message in messages:
        if message.get("role") not in ROLES:
            raise Refused(f"the role {str(message.get('role'))[:50]!r} is not one of {', '.join(ROLES)}")
    if not messages or messages[-1]["role"] == "assistant":
        raise Refused("a chat ends on a user turn")
    return [{**message, "content": _text(message)} for message in messages]


def _text(message: dict[str, Any]) -> str:
    """Return a message's text, that of its parts joined."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return ""
    parts: list[Any] = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refused("the content of a message is text, or a list of parts of text")
    return "".join(part["text"] for part in parts)


class RequestChecks:
    """The ASGI middleware that checks chats; all else passes."""

    def __init__(
        self, app: Application, limits: Limits, prompt_ids: PromptIds, packed: Callable[..., dict[str, Any]]
    ) -> None:
        """Keep what a check takes.

        Args:
            app: the host's application.
            limits: its limits.
            prompt_ids: from a dialogue and its tools to its prompt's ids.
            packed: from the same and the seed to the messages and tools that the application takes.
        """
        self._app, self._limits, self._prompt_ids, self._packed = app, limits, prompt_ids, packed

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        is_chat = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith((CHAT, TOKENIZE))
        if not is_chat:
            await self._app(scope, receive, send)
            return
        is_answered = scope["path"].endswith(CHAT)
        try:
            if is_answered:
                self._check_key(dict(scope["headers"]))
            chat = await self._checked(receive)
            dialogue = dialogue_of(chat)
            body = json.dumps(chat | self._packed(*dialogue, chat.get("seed")) if is_answered else chat).encode()
        except Refused as err:
            await _send_refusal(send, err)
            return
        others = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        scope["headers"] = [*others, (b"content-length", str(len(body)).encode())]
        await self._app(scope, _replayed(body, receive), send)

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if self._limits.key and headers.get(b"authorization") != f"Bearer {self._limits.key}".encode():
            raise Refused("Invalid API key.", 401)

    async def _checked(self, receive: Receive) -> dict[str, Any]:
        """Read a chat, no further than its limit, and count its tokens beside the event loop."""
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
            if len(body) > self._limits.body_bytes:
                raise Refused(f"the body is longer than {self._limits.body_bytes} bytes, more than any prompt")
        chat = read_chat(body, self._limits)
        count = len(await asyncio.to_thread(prompt_of, chat, self._prompt_ids))
        if count >= self._limits.context:
            raise Refused(f"the prompt has {count} tokens, the context of the model {self._limits.context}")
        return chat


def prompt_of(chat: dict[str, Any], prompt_ids: PromptIds) -> list[int]:
    """Return the ids of the prompt of a chat that was checked.

    Raises:
        Refused: if it has no form in training.
    """
    try:
        return prompt_ids(*dialogue_of(chat))
    except UserError as err:
        raise Refused(str(err)) from None
    except RENDERING_ERRORS as err:
        raise Refused(f"calls or tools that cannot be rendered: {type(err).__name__}: {one_line(err)[:200]}") from None


async def _send_refusal(send: Send, err: Refused) -> None:
    """Answer with an error in the form of OpenAI's API."""
    error = {"message": str(err), "type": "invalid_request_error", "code": err.status}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": err.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receiver that gives the body once more, and then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
