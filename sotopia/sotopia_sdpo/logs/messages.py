"""Turn OpenAI's chat messages into turns of the step files: the one home of that conversion.

Comes in: messages with roles, content, calls and results. Goes out: the turns up to the agent's last one, and what
came after it. Invariant: every text, call and result stands in one turn, once, results in the order of their calls.
"""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

from sotopia_sdpo.outcomes import check_number
from sotopia_sdpo.play.dialogue import AGENT, Message
from sotopia_sdpo.text import whole_text


SPEAKERS = {
    **{"system": "system", "developer": "system", "user": "user"},
    **{"assistant": "assistant", "tool": "tool", "function": "tool"},
}
"""Who speaks, by the role of a message."""
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Where the text of a part stands, by the part's type."""
THOUGHT_PARTS = ("thinking", "redacted_thinking", "reasoning")
THOUGHTS = ("reasoning_content", "reasoning")
CALLS_START, CALLS_END = "<tool_call>", "</tool_call>"
"""Around the calls of a turn that says something first; the host's own spelling."""
NO_RESULT = "with a call that has no result"
NOT_JSON = "with a call whose arguments are not a JSON object"
REASONING = "dialogues hold reasoning of the agent's, which is left out"
IN_A_ROW = "dialogues hold several messages of the agent's in a row, which become one turn"


class UserTools(StrEnum):
    """What becomes of the calls that a user makes, and of their results."""

    text = "text"
    drop = "drop"


USERS_CALLS = {
    UserTools.text: "dialogues have a user who calls tools; that is kept as text of the user's turns",
    UserTools.drop: "dialogues have a user who calls tools; that is left out",
}


class Unusable(ValueError):
    """A dialogue that cannot be used; the text says why, in the same words for all of a kind."""


class Dialogue(NamedTuple):
    """A dialogue as turns."""

    turns: list[Message]
    """They end on a turn of the agent's."""
    tail: list[Message]
    """What came after that turn: the partner's last words, or the results of the last calls."""
    notes: set[str]
    """What users should know of it."""
    has_user_tools: bool


class Call(NamedTuple):
    """One call of a tool."""

    id: str | None
    name: str
    arguments: dict[str, Any]


class Said(NamedTuple):
    """One message."""

    speaker: str
    """`system`, `user` also for the results of the user's own calls, `assistant`, or `tool`."""
    text: str
    calls: list[Call]
    message: dict[str, Any]

    @property
    def is_result(self) -> bool:
        """Whether it is the result of a call."""
        return SPEAKERS[self.message["role"]] == "tool"


def dialogue_of(messages: Any, user_tools: UserTools = UserTools.text) -> Dialogue:
    """Convert the messages of one dialogue.

    Raises:
        Unusable: if they are no dialogue, or hold what no turn can.
    """
    if not isinstance(messages, list) or not messages:
        raise Unusable("without messages")
    said = list(_said(messages))
    has_user_tools = any(one.speaker == "user" and one.calls for one in said)
    notes = {USERS_CALLS[user_tools]} if has_user_tools else set()
    if any(_thinks(one.message) for one in said):
        notes.add(REASONING)
    turns: list[Message] = []
    asked: list[Call] = []
    for speaker, group in groupby(said, lambda one: one.speaker):
        block = list(group)
        if asked and speaker != "tool":
            raise Unusable(NO_RESULT)
        if speaker == "tool":
            turns += _observations(asked, block, may_lack=block[-1] is said[-1])
        elif speaker == "user":
            turns.append(_human(block, user_tools, may_lack=block[-1] is said[-1]))
        elif speaker == "assistant":
            turns.append(_agents(block))
            notes |= {IN_A_ROW} if len(block) > 1 else set()
        elif turns:
            raise Unusable("with a system message after the first turn")
        else:
            turns.append({"from": "system", "value": _joined(block)})
        asked = [call for one in block for call in one.calls] if speaker == "assistant" else []
    last = max((place for place, turn in enumerate(turns) if turn["from"] in AGENT), default=None)
    if last is None:
        raise Unusable("without a turn of the agent's")
    return Dialogue(turns[: last + 1], turns[last + 1 :], notes, has_user_tools)


def function_call(text: str, calls: Sequence[dict[str, Any]]) -> str:
    """Write the value of a turn that calls tools, perhaps after saying something.

    Args:
        text: what is said before.
        calls: a name and arguments each.

    Raises:
        Unusable: if that cannot be told apart again.
    """
    if CALLS_START in text:
        raise Unusable(f"with {CALLS_START} in the text before a call")
    # Nothing inside a call may look like the marks around the calls.
    written = _json(calls).replace("<", "\\u003c")
    return f"{text}\n{CALLS_START}{written}{CALLS_END}" if text.strip() else written


def _said(messages: Sequence[Any]) -> Iterator[Said]:
    """Read the messages, and tell the results of the user's calls from those of the agent's."""
    caller = ""
    for message in messages:
        if not isinstance(message, dict) or str(message.get("role")) not in SPEAKERS:
            raise Unusable("with a message of an unknown role")
        speaker, calls = SPEAKERS[message["role"]], _calls(message)
        if calls:
            caller = speaker
        elif speaker == "tool" and caller == "user":
            speaker = caller
        yield Said(speaker, _text(message), calls, message)


def _text(message: dict[str, Any]) -> str:
    """Return what a message says; reasoning is not said."""
    content = message.get("content")
    text = ""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") in THOUGHT_PARTS:
            continue
        said = part.get(TEXT_PARTS.get(str(part.get("type")), "")) if isinstance(part, dict) else part or ""
        if not isinstance(said, str):
            raise Unusable("with content other than text")
        text += said
    return text or str(message.get("refusal") or "")


def _thinks(message: dict[str, Any]) -> bool:
    """Return whether a message holds reasoning."""
    content = message["content"] if isinstance(message.get("content"), list) else []
    types = [part.get("type") for part in content if isinstance(part, dict)]
    return any(message.get(name) for name in THOUGHTS) or any(one in THOUGHT_PARTS for one in types)


def _calls(message: dict[str, Any]) -> list[Call]:
    """Read the calls of a message, also the one call of the older form."""
    raw = message.get("tool_calls") or (
        [{"function": message["function_call"]}] if message.get("function_call") else []
    )
    if not isinstance(raw, list):
        raise Unusable("with calls that are not a list")
    return [_call(one) for one in raw]


def _call(raw: Any) -> Call:
    """Read a call, whose function may stand inside of it."""
    function = raw.get("function", raw) if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Unusable("with a call without a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as err:
            raise Unusable(NOT_JSON) from err
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise Unusable(NOT_JSON)
    return Call(raw.get("id"), function["name"], arguments)


def _agents(block: Sequence[Said]) -> Message:
    """Return the turn of the agent's messages that stand in a row."""
    calls = [{"name": call.name, "arguments": call.arguments} for one in block for call in one.calls]
    first_call = next((place for place, one in enumerate(block) if one.calls), len(block))
    if any(one.text.strip() for one in block[first_call + 1 :]):
        raise Unusable(NO_RESULT)
    weight, *others = [_weight(one.message) for one in block]
    if any(other != weight for other in others):
        raise Unusable("with messages of the agent's in a row that have different weights")
    text = _joined([one for one in block if one.text.strip()])
    if not text and not calls:
        raise Unusable("with an empty turn of the agent's")
    turn = {"from": "function_call", "value": function_call(text, calls)} if calls else {"from": "gpt", "value": text}
    return turn if weight is None else {**turn, "weight": weight}


def _weight(message: dict[str, Any]) -> Any:
    """Return the weight that a message has in training, where one is given."""
    weight = message.get("weight")
    try:
        if weight is not None and check_number(weight) < 0:
            raise ValueError
    except ValueError as err:
        raise Unusable("with a weight that is not a number of at least 0") from err
    return weight


def _observations(calls: Sequence[Call], block: Sequence[Said], may_lack: bool) -> list[Message]:
    """Return the results of some calls, in the order of these; a dialogue may end before the last of them."""
    results: dict[int, str] = {}
    for one in block:
        results[_answered(calls, [place for place in range(len(calls)) if place not in results], one.message)] = (
            one.text
        )
    if len(results) < len(calls) and not may_lack:
        raise Unusable(NO_RESULT)
    return [{"from": "observation", "value": results[place]} for place in sorted(results)]


def _answered(calls: Sequence[Call], waiting: Sequence[int], message: dict[str, Any]) -> int:
    """Return the call that a result belongs to: the one of its id, else the next one where ids are missing."""
    key, name = message.get("tool_call_id"), message.get("name")
    found = [place for place in waiting if key is not None and calls[place].id == key]
    without_id = [place for place in waiting if key is None or calls[place].id is None]
    named = [place for place in without_id if calls[place].name == name]
    for places in (found, named, without_id):
        if places:
            return places[0]
    raise Unusable("with a result that answers no call")


def _human(block: Sequence[Said], user_tools: UserTools, may_lack: bool) -> Message:
    """Return the turn of what the user says, calls and sees between two turns of the agent's."""
    asked, results = sum(len(one.calls) for one in block), sum(one.is_result for one in block)
    if results > asked or (results < asked and not may_lack):
        raise Unusable("with a user's call that has no result, or a result without its call")
    lines = []
    for one in block:
        if not one.is_result:
            lines += [one.text] if one.text or not one.calls else []
        elif user_tools is UserTools.text:
            lines.append(f"[result {one.text}]")
        if user_tools is UserTools.text:
            lines += [f"[calls {call.name}({_json(call.arguments)})]" for call in one.calls]
    return {"from": "human", "value": "\n".join(lines)}


def _joined(block: Sequence[Said]) -> str:
    """Return what several messages in a row say."""
    return "\n".join(one.text for one in block)


def _json(value: Any) -> str:
    """Write JSON as any reader takes it; what was itself read out of a text may hold halves of surrogate pairs."""
    try:
        return json.dumps(whole_text(value), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as err:
        raise Unusable(NOT_JSON) from err
