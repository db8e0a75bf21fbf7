"""Read the two dialogues of a pair from the records of a file, and check each on its own."""

from collections.abc import Sequence
from reprlib import repr as shown
from typing import Any, NamedTuple

from ..errors import UserError, kind, named
from .formats import Format
from .splitting import AGENT_ROLES, PARTNER_ROLES, Dialogue, split, value_of
from .turns import order_of_results, read_turn, tools_text
from .weights import read_weight


Message = dict[str, Any]
"""{"role": "system" | "user" | "observation" | "assistant" | "function", "content": text}, and an agent's may have a
"weight", a float; `weights` reads it."""

FOLLOWERS = {
    "": (*PARTNER_ROLES, *AGENT_ROLES),
    "user": AGENT_ROLES,
    "observation": (*PARTNER_ROLES, *AGENT_ROLES),
    "assistant": PARTNER_ROLES,
    "function": PARTNER_ROLES,
}
"""What may come after a turn, "" being the beginning: between two agent turns stand results of tools, one turn of the
partner's, or these and then that; the agent may speak first."""


class Side(NamedTuple):
    """One dialogue of a pair as it was read.

    Attributes:
        name: for messages.
        system: the leading system message, or nothing.
        messages: all others, in the order of `FOLLOWERS`, the last an agent's.
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


def is_agent(message: Message) -> bool:
    """Return whether a message is a turn of the agent's, which may be a call of tools."""
    return message["role"] in AGENT_ROLES


def agent_turns(messages: Sequence[Message]) -> int:
    """Return how many of the messages are the agent's."""
    return sum(map(is_agent, messages))


def read_sides(records: list[Any], form: Format, with_segment: bool) -> Sides:
    """Read both sides of a pair.

    Args:
        records: one record in the ranking form; else two, the negative one first.
        form: columns and tags.
        with_segment: read `segment` too; otherwise it may hold anything.

    Raises:
        UserError: without file and record, which the caller knows.
    """
    dialogues = split(records, form)
    rejected, chosen = (_side(dialogue, form, with_segment) for dialogue in dialogues)
    tools = [_tools(dialogue.record, form) for dialogue in dialogues]
    if tools[0] != tools[1]:
        raise UserError("the two records have different tools; a pair is one task, make them the same")
    return Sides(rejected, chosen, tools[0])


def _side(dialogue: Dialogue, form: Format, with_segment: bool) -> Side:
    """Read and check one dialogue."""
    name, turns, record = dialogue
    messages = [_message(name, index, turn, form) for index, turn in enumerate(turns)]
    if form.openai:
        with named(f"{name}: "):
            messages = [messages[index] for index in order_of_results(turns, form)]
    system = _text(record, form.system)
    leading: list[Message] = [{"role": "system", "content": system}] if system else []
    first = int(bool(messages) and messages[0]["role"] == "system")
    if first:
        leading = [messages.pop(0)]
    if not messages:
        remedy = f"expected {form.user_tag} and {form.assistant_tag} turns in alternation"
        raise UserError(f"{name}: no turns; {_ranking_remedy(record, form) or remedy}")
    before = ""
    for index, message in enumerate(messages):
        _check_order(name, index + first, message["role"], before, form)
        before = message["role"]
    if not is_agent(messages[-1]):
        raise UserError(
            f"{name}: turn {len(messages) - 1 + first}, the last, is not an agent's; "
            + (
                _ranking_remedy(record, form)
                or f"a dialogue ends on a '{form.assistant_tag}' turn, cut what follows it"
            )
        )
    segment = _segment(name, record.get("segment"), messages, first) if with_segment else None
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
        raise UserError(f"{name}: turn {index} is {kind(turn)}, expected an object with '{form.role_tag}'")
    tag = turn.get(form.role_tag)
    if not isinstance(tag, str) or tag not in form.roles:
        expected = ", ".join(form.roles)
        raise UserError(f"{name}: turn {index} has '{form.role_tag}' {shown(tag)}, expected one of {expected}")
    with named(f"{name}: turn {index} "):
        role, content = read_turn(turn, form.roles[tag], form)
    _check_characters(f"{name}: turn {index}", content)
    message = {"role": role, "content": content}
    weight = read_weight(f"{name}: turn {index}", turn.get("weight"), is_agent(message))
    return message if weight is None else message | {"weight": weight}


def _check_order(name: str, index: int, role: str, before: str, form: Format) -> None:
    """Refuse a turn that may not follow the one before it."""
    if role not in FOLLOWERS[before]:
        tags = {"function": form.assistant_tag} | {role: tag for tag, role in form.roles.items()}
        expected = tags["user" if before in AGENT_ROLES else "assistant"]
        raise UserError(
            f"{name}: turn {index} is a '{tags[role]}' turn where a '{expected}' turn belongs; "
            "turns of agent and partner alternate (a system turn may come before, results of tools between)"
        )


def _segment(name: str, value: Any, messages: list[Message], shift: int) -> tuple[int, int] | None:
    """Read `segment`, a half-open interval over the file's turns, as one over the messages."""
    if value is None:
        return None
    numbers = isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != 2:
        raise UserError(f"{name}: segment {shown(value)} is not [start, end]; give two turn numbers or leave it out")
    start, end, length = value[0] - shift, value[1] - shift, len(messages)
    if not 0 <= start < end <= length:
        raise UserError(
            f"{name}: segment {shown(value)} is outside the record, which has turns {shift} to {length + shift - 1}; "
            "the end is one behind the last turn"
        )
    if not (is_agent(messages[start]) and is_agent(messages[end - 1])):
        raise UserError(f"{name}: segment {value} does not begin and end on an agent's turn; mend it or leave it out")
    return start, end


def _text(record: Any, column: str | None) -> str:
    """Return the value of an optional text column."""
    value = value_of(record, column)
    if value is not None and not isinstance(value, str):
        raise UserError(f"'{column}' is {kind(value)}, expected text")
    _check_characters(f"'{column}'", value or "")
    return value or ""


def _tools(record: dict[str, Any], form: Format) -> str:
    """Return the tools of a record as the JSON text that the host's templates read."""
    text = tools_text(value_of(record, form.tools), form.tools or "")
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
