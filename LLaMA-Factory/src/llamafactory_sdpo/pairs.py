"""Turn records into preference pairs: two dialogues, and the agent turn from which on they are scored.

This is where negative/positive (episodes) become rejected/chosen (training), and where data is validated. A pair is
formed before anything may shuffle, split, subsample or shard, and from here on it is one row:

    adjacent form   records 2i, 2i+1      {"conversations": [...]} negative, {"conversations": [...]} positive
    ranking form    record i              {"conversations": [history], "chosen": [...], "rejected": [...]}

A row that is wrong is not raised but carries its one-line `error`, so that the caller may stop at it or count it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .errors import UserError


Stage = Literal["sdpo", "eto", "dmpo"]
Scope = Literal["segment", "turn"]
Unequal = Literal["stop", "warn", "truncate"]

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
    observation_tag: str = "observation"
    function_tag: str = "function_call"
    system_tag: str = "system"

    @property
    def roles(self) -> dict[str, str]:
        """The tags of this file and the roles that they stand for."""
        return {
            self.system_tag: "system",
            self.user_tag: "user",
            self.observation_tag: "observation",
            self.assistant_tag: "assistant",
            self.function_tag: "function",
        }


@dataclass(frozen=True)
class Rules:
    """What a stage asks of a pair."""

    stage: Stage = "sdpo"
    scope: Scope = "segment"
    unequal: Unequal = "stop"


class Side(NamedTuple):
    """One dialogue of a pair. `shift` is the number of leading system messages, 0 or 1."""

    name: str
    system: list[Message]
    messages: list[Message]
    segment: tuple[int, int] | None

    @property
    def shift(self) -> int:
        """How far an index over the file's messages is ahead of one over `messages`."""
        return len(self.system)


class Pair(NamedTuple):
    """A pair as it is trained: both dialogues end with their last scored agent turn.

    Attributes:
        chosen: the better dialogue, a leading system message included.
        rejected: the worse one.
        tools: tool descriptions for the host's template, usually empty.
        first_turn: number (from 0) of the first scored agent turn, the same on both sides.
        unequal: whether the sides have different numbers of scored turns.
        origin: file and record numbers, for messages.
        error: the reason why the pair cannot be trained on, or ''.
    """

    chosen: list[Message]
    rejected: list[Message]
    tools: str
    first_turn: int
    unequal: bool
    origin: str
    error: str


def is_agent(index: int) -> bool:
    """Whether the message at this index is the agent's; dialogues alternate and begin with the partner."""
    return index % 2 == 1


def make_pairs(records: Iterable[tuple[int, Any]], form: Format, rules: Rules, file: str) -> Iterator[Pair]:
    """Pair the records of one file.

    Args:
        records: (number, record) in the order of the file.
        form: columns and tags.
        rules: what the stage asks.
        file: the name for messages.

    Raises:
        UserError: if the number of adjacent records is odd, or if there is no record at all. What is wrong with one
            pair is in its `error`.
    """
    count = 0
    waiting: tuple[int, Any] | None = None
    for number, record in records:
        count += 1
        if form.ranking:
            yield _checked_pair(_ranking_sides, [record], form, rules, f"{file} record {number}")
        elif waiting is None:
            waiting = (number, record)
        else:
            origin = f"{file} records {waiting[0]} and {number}"
            yield _checked_pair(_adjacent_sides, [waiting[1], record], form, rules, origin)
            waiting = None
    if waiting is not None:
        raise UserError(
            f"{file} has {count} records, an odd number: record {count - 1} has no partner; expected negative and "
            "positive next to each other; add the missing one or remove the other"
        )
    if count == 0:
        raise UserError(f"{file} holds no records; expected negative and positive dialogues next to each other")


def _checked_pair(sides: Any, records: list[Any], form: Format, rules: Rules, origin: str) -> Pair:
    """Build one pair, or one that carries its error."""
    try:
        rejected, chosen, tools = sides(records, form, rules)
        if rules.stage == "sdpo":
            return _segment_pair(rejected, chosen, tools, rules, origin)
        return _session_pair(rejected, chosen, tools, origin)
    except UserError as err:
        return Pair([], [], "", 0, False, origin, f"{origin}: {err}")


# ---- reading dialogues ----------------------------------------------------------------------------------------------


def _adjacent_sides(records: list[Any], form: Format, rules: Rules) -> tuple[Side, Side, str]:
    """(negative, positive, tools) of two adjacent records."""
    names = ("the first (negative)", "the second (positive)")
    sides = [
        _side(name, _field(record, form.messages, name), record, form, rules)
        for name, record in zip(names, records, strict=True)
    ]
    tools = [_text(record, form.tools) for record in records]
    if tools[0] != tools[1]:
        raise UserError("the two records have different tools; a pair is one task, make them the same")
    return sides[0], sides[1], tools[0]


def _ranking_sides(records: list[Any], form: Format, rules: Rules) -> tuple[Side, Side, str]:
    """(rejected, chosen, tools) of one record of the ranking form."""
    record = records[0]
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
        sides.append(_side(f"'{column}'", history + answer, record, form, rules))
    return sides[0], sides[1], _text(record, form.tools)


def _side(name: str, turns: Any, record: Any, form: Format, rules: Rules) -> Side:
    """Read and check one dialogue."""
    if not isinstance(turns, list):
        raise UserError(f"{name}: '{form.messages}' is {_kind(turns)}, expected a list of turns")
    messages = [_message(name, index, turn, form) for index, turn in enumerate(turns)]
    system = _text(record, form.system)
    leading = [{"role": "system", "content": system}] if system else []
    if messages and messages[0]["role"] == "system":
        leading = [messages.pop(0)]
        first = 1
    else:
        first = 0
    if not messages:
        raise UserError(f"{name}: no turns; expected {form.user_tag} and {form.assistant_tag} turns in alternation")
    for index, message in enumerate(messages):
        _check_order(name, index + first, message["role"], is_agent(index), form)
    if not is_agent(len(messages) - 1):
        raise UserError(
            f"{name}: turn {len(messages) - 1 + first}, the last, is not an agent's; "
            f"a dialogue ends on a '{form.assistant_tag}' turn, cut what follows it"
        )
    segment = _segment(name, record.get("segment"), len(messages), first) if rules.stage == "sdpo" else None
    return Side(name, leading, messages, segment)


def _message(name: str, index: int, turn: Any, form: Format) -> Message:
    """Read one turn."""
    if not isinstance(turn, dict):
        raise UserError(f"{name}: turn {index} is {_kind(turn)}, expected an object with '{form.role_tag}'")
    tag, content = turn.get(form.role_tag), turn.get(form.content_tag)
    if tag not in form.roles:
        expected = ", ".join(form.roles)
        raise UserError(f"{name}: turn {index} has '{form.role_tag}' {tag!r}, expected one of {expected}")
    if not isinstance(content, str):
        raise UserError(f"{name}: turn {index} has {_kind(content)} as '{form.content_tag}', expected text")
    return {"role": form.roles[tag], "content": content}


def _check_order(name: str, index: int, role: str, agent: bool, form: Format) -> None:
    """Refuse a turn that is not where its role may stand."""
    expected = ("assistant", "function") if agent else ("user", "observation")
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
        raise UserError(f"{name}: segment {value!r} is not [start, end]; give two turn numbers or leave it out")
    start, end = value[0] - shift, value[1] - shift
    if not 0 <= start < end <= length:
        raise UserError(
            f"{name}: segment {value} is outside the record, which has turns {shift} to {length + shift - 1}; "
            "the end is one behind the last turn"
        )
    if not (is_agent(start) and is_agent(end - 1)):
        raise UserError(f"{name}: segment {value} does not begin and end on an agent's turn; mend it or leave it out")
    return start, end


def _field(record: Any, column: str, name: str) -> Any:
    """The value of a required column."""
    if not isinstance(record, dict):
        raise UserError(f"{name}: is {_kind(record)}, expected an object with '{column}'")
    if record.get(column) is None:
        raise UserError(f"{name}: has no '{column}'; found {', '.join(record) or 'nothing'}")
    return record[column]


def _text(record: Any, column: str | None) -> str:
    """The value of an optional text column."""
    value = record.get(column) if column else None
    if value is not None and not isinstance(value, str):
        raise UserError(f"'{column}' is {_kind(value)}, expected text")
    return value or ""


def _kind(value: Any) -> str:
    """Name a JSON value's type as a user would."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


# ---- comparing the two sides ----------------------------------------------------------------------------------------


def first_difference(one: list[Message], other: list[Message]) -> int | None:
    """Index of the first message that differs, or None if one dialogue is the beginning of the other."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return None


def _session_pair(rejected: Side, chosen: Side, tools: str, origin: str) -> Pair:
    """Pair two whole sessions (eto, dmpo); they may differ from the start and in length."""
    if (rejected.system, rejected.messages) == (chosen.system, chosen.messages):
        raise UserError("the two dialogues never differ; remove the pair")
    return Pair(
        chosen.system + chosen.messages, rejected.system + rejected.messages, tools, 0, False, origin, error=""
    )


def _segment_pair(rejected: Side, chosen: Side, tools: str, rules: Rules, origin: str) -> Pair:
    """Pair two dialogues that share a history (sdpo), cut both at the end of what is scored."""
    start = _segment_start(rejected, chosen)
    ends = [_segment_end(side, start, rules.scope) for side in (rejected, chosen)]
    turns = [(end - start + 1) // 2 for end in ends]
    unequal = turns[0] != turns[1]
    if unequal and rules.unequal == "stop":
        raise UserError(
            f"the segments have {turns[0]} (negative) and {turns[1]} (positive) agent turns; expected the same "
            "number, since a longer negative side collapses training; cut them alike, or set "
            "unequal_segments: truncate"
        )
    if unequal and rules.unequal == "truncate":
        ends, unequal = [min(ends)] * 2, False
    return Pair(
        chosen=chosen.system + chosen.messages[: ends[1]],
        rejected=rejected.system + rejected.messages[: ends[0]],
        tools=tools,
        first_turn=start // 2,
        unequal=unequal,
        origin=origin,
        error="",
    )


def _segment_start(rejected: Side, chosen: Side) -> int:
    """Index of the first differing agent turn, which a given segment must confirm."""
    if rejected.system != chosen.system:
        raise UserError("the system turns differ; the two sides of a pair share their beginning")
    start = first_difference(rejected.messages, chosen.messages)
    if start is None:
        if len(rejected.messages) == len(chosen.messages):
            raise UserError("the two dialogues never differ; remove the pair")
        raise UserError("one dialogue is the beginning of the other, so they never differ; remove the pair")
    if start == 0:
        raise UserError("the first human turns differ; the two sides of a pair share their beginning")
    if not is_agent(start):
        raise UserError(
            f"the first difference, turn {start + chosen.shift}, is the partner's; "
            "the sides must part at an agent's turn"
        )
    for side in (rejected, chosen):
        if side.segment is not None and side.segment[0] != start:
            raise UserError(
                f"{side.name}: segment starts at turn {side.segment[0] + side.shift}, but the dialogues first "
                f"differ at turn {start + side.shift}; correct the start or leave the segment out"
            )
    return start


def _segment_end(side: Side, start: int, scope: Scope) -> int:
    """Index behind the last scored message."""
    if scope == "turn":
        return start + 1
    return side.segment[1] if side.segment else len(side.messages)
