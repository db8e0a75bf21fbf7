r"""Read what one turn says: its text, and the calls of tools, which come out spelled in one way.

    OpenAI's        {"content": "Let me see.", "tool_calls": [{"id": …, "function": {"name": …, "arguments": "{…}"}}]}
    ShareGPT's      {"name": …, "arguments": {…}}, a list of these, or TEXT<tool_call>of either</tool_call>
    result          [{"name": …, "arguments": {…}}], after "Let me see.\n<tool_call>" and before "</tool_call>"

So equal calls are equal texts, however their JSON was written; the order of the arguments stays.
"""

import json
from typing import Any, NamedTuple

from ..errors import UserError, kind
from .formats import Format


Turn = dict[str, Any]

OPENS, CLOSES = "<tool_call>", "</tool_call>"
"""What stands around calls in a turn that says something as well; the host reads them so."""
_LESS_THAN = r"\u003c"
_DECODER = json.JSONDecoder()

NOT_JSON = (ValueError, RecursionError)
"""What `json.loads` raises for a text that it cannot read."""


def read_turn(turn: Turn, role: str, form: Format) -> tuple[str, str]:
    """Return role and content of a turn; a turn of the agent's with calls is of the role `function`.

    Args:
        turn: as the file spells it.
        role: of its tag.
        form: the tags of the file.

    Raises:
        UserError: without the turn's number, which the caller knows.
    """
    content = turn.get(form.content_tag)
    if form.openai:
        content, calls = _text(content, form), _calls_of(turn)
        if calls is not None:
            if role not in ("assistant", "function"):
                raise UserError(f"is a '{turn[form.role_tag]}' turn with tool_calls; calls are the agent's, move them")
            return "function", _spelled(f"{content}\n" if (content or "").strip() else "", calls)
        if content is None and role == "assistant":
            content = turn.get("refusal")
    elif turn.get("tool_calls"):
        raise UserError('has tool_calls, which "formatting": "openai" reads')
    if not isinstance(content, str):
        raise UserError(f"has {kind(content)} as '{form.content_tag}', expected text")
    return role, _respelled(content) if role == "function" else content


def _text(content: Any, form: Format) -> Any:
    """Return a content as a text if it is a list of OpenAI's parts, else as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
        if not isinstance(text, str):
            what = part.get("type") if isinstance(part, dict) else kind(part)
            raise UserError(f"has a part of type {what} in '{form.content_tag}'; pairs are text only, leave it out")
        texts.append(text)
    return "".join(texts)


def _calls_of(turn: Turn) -> list[Turn] | None:
    """Return the calls of an OpenAI turn, or None if it has none."""
    calls = turn.get("tool_calls")
    if calls is None and turn.get("function_call"):
        calls = [{"function": turn["function_call"]}]
    if calls is None:
        return None
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UserError(f"has {kind(calls)} as 'tool_calls', expected a list of calls")
    if not calls and turn.get("content"):
        return None
    return [_call(call.get("function", call)) for call in _some(calls)]


def _some(calls: list[Any]) -> list[Any]:
    """Return a list of calls that is not empty."""
    if not calls:
        raise UserError("has an empty list of calls and says nothing; add the calls or leave the turn out")
    return calls


def _call(call: Any) -> Turn:
    """Return a call with its arguments as an object."""
    name = call.get("name") if isinstance(call, dict) else None
    if not isinstance(name, str) or not name:
        raise UserError("has a call without a name; a call is an object with name and arguments")
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except NOT_JSON:
            raise UserError(f"calls {name} with arguments that are not JSON; write them as a JSON object") from None
    if not isinstance(arguments, dict):
        raise UserError(f"calls {name} with {kind(arguments)} as arguments, expected a JSON object")
    return {"name": name, "arguments": arguments}


def _spelled(text: str, calls: list[Turn]) -> str:
    """Return what a turn says and calls as one text."""
    if OPENS in text:
        raise UserError(f"says {OPENS}, which marks its calls; leave it out of the text")
    value = json.dumps(calls, ensure_ascii=False)
    # A string of the JSON must not look like the end of it.
    return f"{text}{OPENS}{value.replace(CLOSES, CLOSES.replace('<', _LESS_THAN))}{CLOSES}" if text else value


def _respelled(value: str) -> str:
    """Return the value of a ShareGPT call spelled as everywhere; one that holds no calls is left to the template."""
    text, found = "", _calls_in(value)
    if found is None:
        text, _, tagged = value.partition(OPENS)
        found = _tagged_calls(tagged)
    if found is None or not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in found):
        return value
    return _spelled(text if text.strip() else "", [_call(call) for call in _some(found)])


def _calls_in(text: str) -> list[Any] | None:
    """Return the calls of a JSON text, one or a list; None if it is something else."""
    try:
        value = json.loads(text)
    except NOT_JSON:
        return None
    return _listed(value)


def _listed(value: Any) -> list[Any] | None:
    return [value] if isinstance(value, dict) else value if isinstance(value, list) else None


def _tagged_calls(tagged: str) -> list[Any] | None:
    """Return the calls of one or several tagged JSON texts, the first without its opening tag; None if it is none."""
    found = []
    while True:
        try:
            value, end = _DECODER.raw_decode(tagged.lstrip())
        except NOT_JSON:
            return None
        rest = tagged.lstrip()[end:].lstrip()
        if (calls := _listed(value)) is None or not rest.startswith(CLOSES):
            return None
        found += calls
        rest = rest.removeprefix(CLOSES).strip()
        if not rest:
            return found
        if not rest.startswith(OPENS):
            raise UserError("says something after its calls, where no template puts it; move it before them")
        tagged = rest.removeprefix(OPENS)


def tools_text(value: Any, column: str) -> str:
    """Return the tools of a record as the JSON text that the host's templates read, written as everywhere.

    A text that is not JSON is left to the template, which refuses it.
    """
    if isinstance(value, str):
        try:
            return json.dumps(json.loads(value), ensure_ascii=False)
        except NOT_JSON:
            return value
    if value is not None and not isinstance(value, list):
        raise UserError(f"'{column}' is {kind(value)}, expected a list of tools, or their JSON")
    return "" if value is None else json.dumps(value, ensure_ascii=False)


class _Call(NamedTuple):
    """What a result can name its call by."""

    id: Any
    name: str


def order_of_results(turns: list[Turn], form: Format) -> list[int]:
    """Return the order of OpenAI's turns in which the results of an agent's turn follow the order of its calls.

    A result names its call by `tool_call_id`; without one it belongs to the first call that is left, of its `name` if
    it has one.

    Args:
        turns: each read before.
        form: their tags.

    Raises:
        UserError: if a result has no call, or a call before the last turn no result; without the dialogue's name.
    """
    order = {place: place for place in range(len(turns))}
    # The calls without a result, by the place of their result.
    waiting: dict[int, _Call] = {}
    made: list[_Call] = []
    for index, turn in enumerate(turns):
        role = form.roles[turn[form.role_tag]]
        if role == "observation":
            # Calls in a content, ms-swift's, have no ids.
            if not made and index and form.roles[turns[index - 1][form.role_tag]] in ("function", "observation"):
                continue
            place = _place_of(turn, waiting)
            if place is None:
                asked = turn.get("tool_call_id") or turn.get("name") or "none that is left"
                found = ", ".join(str(call.id or call.name) for call in made) or "nothing"
                raise UserError(f"turn {index} is the result of call {asked}, but the turn before calls {found}")
            order[place] = index
            del waiting[place]
            continue
        if waiting:
            call = next(iter(waiting.values()))
            raise UserError(f"the call {call.id or call.name} before turn {index} has no result; add it")
        made = _calls_made(turn)
        waiting = {index + 1 + number: call for number, call in enumerate(made)}
    return [order[place] for place in range(len(turns))]


def _calls_made(turn: Turn) -> list[_Call]:
    """Return id and name of each call of a turn."""
    calls = turn.get("tool_calls") or ([{"function": turn["function_call"]}] if turn.get("function_call") else [])
    return [_Call(call.get("id"), call.get("function", call)["name"]) for call in calls]


def _place_of(result: Turn, waiting: dict[int, _Call]) -> int | None:
    """Return the place of a result, that of its call; None if it has none."""
    asked, named = result.get("tool_call_id"), result.get("name")
    for place, call in waiting.items():
        if asked == call.id if asked and call.id else named in (None, call.name):
            return place
    return None
