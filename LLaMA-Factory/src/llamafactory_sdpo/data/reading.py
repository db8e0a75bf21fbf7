"""Read the two dialogues of a pair from the records of a file, and check each on its own.

    adjacent form   records 2i, 2i+1      {"conversations": [...]} negative, {"conversations": [...]} positive
    ranking form    record i              {"conversations": [history], "chosen": [...], "rejected": [...]}

This is where negative/positive (episodes) become rejected/chosen (training).
"""

import json
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any, NamedTuple

from ..errors import UserError


MAX_SHOWN = 20
"""How many names of fields a message lists."""

Message = dict[str, str]
"""{"role": "system" | "user" | "observation" | "assistant" | "function", "content": text}"""


@dataclass(frozen=True)
class Format:
    """How a file spells a dialogue: the host's columns and tags of one entry of dataset_info.json."""

    ranking: bool = False
    messages: str = "conversations"
    chosen: str | None = None
    rejected: str | None = None
    system: str | None = None
    tools: str | None = None
    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    observation_tag: str | None = "observation"
    function_tag: str | None = "function_call"
    system_tag: str | None = "system"

    @property
    def dialogues(self) -> set[str]:
        """The fields of a record that hold lists."""
        return {column for column in (self.messages, self.chosen, self.rejected, "segment") if column}

    @property
    def roles(self) -> dict[str, str]:
        """The role of each tag of this file."""
        roles = {
            self.system_tag: "system",
            self.user_tag: "user",
            self.observation_tag: "observation",
            self.assistant_tag: "assistant",
            self.function_tag: "function",
        }
        return {tag: role for tag, role in roles.items() if tag is not None}


class Side(NamedTuple):
    """One dialogue of a pair as it was read.

    Attributes:
        name: for messages.
        system: the leading system message, or nothing.
        messages: all others; they alternate, from the partner's to the agent's.
        segment: half-open over `messages`; None if the record has none.
    """

    name: str
    system: list[Message]
    messages: list[Message]
    segment: tuple[int, int] | None

    @property
    def shift(self) -> int:
        """By how much an index over the file's messages is ahead of one over `messages`."""
        return len(self.system)


class Sides(NamedTuple):
    """Both dialogues of a pair, and what they share."""

    rejected: Side
    chosen: Side
    tools: str


AGENT_ROLES = ("assistant", "function")


def is_agent(index: int) -> bool:
    """Return whether the message at this index is the agent's; dialogues alternate and begin with the partner."""
    return index % 2 == 1


def read_sides(records: list[Any], form: Format, with_segment: bool) -> Sides:
    """Read both sides of a pair.

    Args:
        records: one record in the ranking form; else two, the negative one first.
        form: columns and tags.
        with_segment: read `segment` too; otherwise it may hold anything.

    Raises:
        UserError: without file and record, which the caller knows.
    """
    if form.ranking:
        return _ranking_sides(records[0], form, with_segment)
    return _adjacent_sides(records, form, with_segment)


def _adjacent_sides(records: list[Any], form: Format, with_segment: bool) -> Sides:
    names = ("the first (negative)", "the second (positive)")
    rejected, chosen = (
        _side(name, _field(record, form.messages, name), record, form, with_segment)
        for name, record in zip(names, records, strict=True)
    )
    tools = [_tools(record, form) for record in records]
    if tools[0] != tools[1]:
        raise UserError("the two records have different tools; a pair is one task, make them the same")
    return Sides(rejected, chosen, tools[0])


def _ranking_sides(record: Any, form: Format, with_segment: bool) -> Sides:
    history = _field(record, form.messages, "the record")
    if not isinstance(history, list):
        raise UserError(f"'{form.messages}' is {_kind(history)}, expected a list of turns (it may be empty)")
    sides = []
    for column in (form.rejected, form.chosen):
        answer = _field(record, column or "", "the record")
        if isinstance(answer, dict):
            answer = [answer]
        if not isinstance(answer, list):
            raise UserError(f"'{column}' is {_kind(answer)}, expected a turn or a list of turns")
        sides.append(_side(f"'{column}'", history + answer, record, form, with_segment))
    if history and form.roles[history[-1][form.role_tag]] in AGENT_ROLES:
        raise UserError(
            f"'{form.messages}' ends on an agent's turn, so this answer would stand before both sides; expected the "
            f"history that they share, up to a '{form.user_tag}' turn; if '{form.chosen}' and '{form.rejected}' are "
            "whole dialogues, make it an empty list"
        )
    rejected, chosen = sides
    return Sides(rejected, chosen, _tools(record, form))


def _side(name: str, turns: Any, record: Any, form: Format, with_segment: bool) -> Side:
    """Read and check one dialogue."""
    if not isinstance(turns, list):
        raise UserError(f"{name}: '{form.messages}' is {_kind(turns)}, expected a list of turns")
    messages = [_message(name, index, turn, form) for index, turn in enumerate(turns)]
    system = _text(record, form.system)
    leading: list[Message] = [{"role": "system", "content": system}] if system else []
    first = int(bool(messages) and messages[0]["role"] == "system")
    if first:
        leading = [messages.pop(0)]
    if not messages:
        remedy = f"expected {form.user_tag} and {form.assistant_tag} turns in alternation"
        raise UserError(f"{name}: no turns; {_ranking_remedy(record, form) or remedy}")
    for index, message in enumerate(messages):
        _check_order(name, index + first, message["role"], is_agent(index), form)
    if not is_agent(len(messages) - 1):
        raise UserError(
            f"{name}: turn {len(messages) - 1 + first}, the last, is not an agent's; "
            + (
                _ranking_remedy(record, form)
                or f"a dialogue ends on a '{form.assistant_tag}' turn, cut what follows it"
            )
        )
    segment = _segment(name, record.get("segment"), len(messages), first) if with_segment else None
    return Side(name, leading, messages, segment)


def _ranking_remedy(record: dict[str, Any], form: Format) -> str:
    """Return what to do about a record of the ranking form that is read as one of the adjacent form, else ''."""
    if form.ranking or not {"chosen", "rejected"} <= record.keys():
        return ""
    return (
        'the record has "chosen" and "rejected", so its entry in dataset_info.json needs "ranking": true, and both '
        "in columns"
    )


def _message(name: str, index: int, turn: Any, form: Format) -> Message:
    """Read one turn."""
    if not isinstance(turn, dict):
        raise UserError(f"{name}: turn {index} is {_kind(turn)}, expected an object with '{form.role_tag}'")
    tag, content = turn.get(form.role_tag), turn.get(form.content_tag)
    if not isinstance(tag, str) or tag not in form.roles:
        expected = ", ".join(form.roles)
        raise UserError(f"{name}: turn {index} has '{form.role_tag}' {shown(tag)}, expected one of {expected}")
    if not isinstance(content, str):
        raise UserError(f"{name}: turn {index} has {_kind(content)} as '{form.content_tag}', expected text")
    _check_characters(f"{name}: turn {index}", content)
    return {"role": form.roles[tag], "content": content}


def _check_order(name: str, index: int, role: str, agent: bool, form: Format) -> None:
    """Refuse a turn that is not where its role may stand."""
    expected = AGENT_ROLES if agent else ("user", "observation")
    if role not in expected:
        tags = {role: tag for tag, role in form.roles.items()}
        raise UserError(
            f"{name}: turn {index} is a '{tags[role]}' turn where a '{tags[expected[0]]}' turn belongs; "
            "turns alternate and begin with the partner (a system turn may come before)"
        )


def _segment(name: str, value: Any, length: int, shift: int) -> tuple[int, int] | None:
    """Read `segment`, a half-open interval over the file's turns, as one over the messages."""
    if value is None:
        return None
    numbers = isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != 2:
        raise UserError(f"{name}: segment {shown(value)} is not [start, end]; give two turn numbers or leave it out")
    start, end = value[0] - shift, value[1] - shift
    if not 0 <= start < end <= length:
        raise UserError(
            f"{name}: segment {shown(value)} is outside the record, which has turns {shift} to {length + shift - 1}; "
            "the end is one behind the last turn"
        )
    if not (is_agent(start) and is_agent(end - 1)):
        raise UserError(f"{name}: segment {value} does not begin and end on an agent's turn; mend it or leave it out")
    return start, end


def _field(record: Any, column: str, name: str) -> Any:
    """Return the value of a required column."""
    if not isinstance(record, dict):
        raise UserError(f"{name}: is {_kind(record)}, expected an object with '{column}'")
    if record.get(column) is None:
        raise UserError(f"{name}: has no '{column}'; found {', '.join(list(record)[:MAX_SHOWN]) or 'nothing'}")
    return record[column]


def _text(record: Any, column: str | None) -> str:
    """Return the value of an optional text column."""
    value = record.get(column) if column else None
    if value is not None and not isinstance(value, str):
        raise UserError(f"'{column}' is {_kind(value)}, expected text")
    _check_characters(f"'{column}'", value or "")
    return value or ""


def _tools(record: Any, form: Format) -> str:
    """Return the tools of a record as the JSON text that the host's templates read; a list is written as such."""
    value = record.get(form.tools) if form.tools else None
    if not isinstance(value, list):
        return _text(record, form.tools)
    text = json.dumps(value, ensure_ascii=False)
    _check_characters(f"'{form.tools}'", text)
    return text


def _check_characters(name: str, text: str) -> None:
    """Refuse half of a character: no file in UTF-8 can hold it, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as err:
        half = ascii(text[err.start])
        raise UserError(
            f"{name} has half of a character, {half} at position {err.start}, as when a text is cut inside an emoji; "
            "write the whole character or leave it out"
        ) from None


def _kind(value: Any) -> str:
    """Return the name of a JSON value's type as a user would say it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
