"""Turn records into preference pairs: two dialogues, and the agent turn from which on they are scored.

This is where pairs are validated. A pair is formed before anything may shuffle, split, subsample or shard, and from
here on it is one row. A pair that is wrong is not raised but carries its one-line `error`, so that the caller may
stop at it or count it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..errors import UserError
from ..stages import STAGES
from .reading import Format, Message, Side, Sides, is_agent, read_sides


Scope = Literal["segment", "turn"]
Unequal = Literal["stop", "warn", "truncate"]


@dataclass(frozen=True)
class Rules:
    """What a stage asks of a pair."""

    stage: str = "sdpo"
    scope: Scope = "segment"
    unequal: Unequal = "stop"

    @property
    def is_of_segments(self) -> bool:
        """Whether the stage scores a key segment, not whole sessions."""
        return STAGES[self.stage].scores == "segment"


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
            yield _checked_pair([record], form, rules, f"{file} record {number}")
        elif waiting is None:
            waiting = (number, record)
        else:
            yield _checked_pair([waiting[1], record], form, rules, f"{file} records {waiting[0]} and {number}")
            waiting = None
    if waiting is not None:
        raise UserError(
            f"{file} has {count} records, an odd number: record {count - 1} has no partner; expected negative and "
            "positive next to each other; add the missing one or remove the other"
        )
    if count == 0:
        raise UserError(f"{file} holds no records; expected negative and positive dialogues next to each other")


def _checked_pair(records: list[Any], form: Format, rules: Rules, origin: str) -> Pair:
    """Build one pair, or one that carries its error."""
    try:
        sides = read_sides(records, form, with_segment=rules.is_of_segments)
        return _segment_pair(sides, rules, origin) if rules.is_of_segments else _session_pair(sides, origin)
    except UserError as err:
        return Pair([], [], "", 0, False, origin, f"{origin}: {err}")


def first_difference(one: list[Message], other: list[Message]) -> int | None:
    """Return the index of the first message that differs, or None if one dialogue is the beginning of the other."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return None


def _session_pair(sides: Sides, origin: str) -> Pair:
    """Pair two whole sessions, which may differ from the start and in length."""
    rejected, chosen, tools = sides
    if (rejected.system, rejected.messages) == (chosen.system, chosen.messages):
        raise UserError("the two dialogues never differ; remove the pair")
    return Pair(
        chosen.system + chosen.messages, rejected.system + rejected.messages, tools, 0, False, origin, error=""
    )


def _segment_pair(sides: Sides, rules: Rules, origin: str) -> Pair:
    """Pair two dialogues that share a history, and cut both at the end of what is scored."""
    rejected, chosen, tools = sides
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
    """Return the index of the first differing agent turn, which a given segment must confirm."""
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
    """Return the index after the last scored message."""
    if scope == "turn":
        return start + 1
    return side.segment[1] if side.segment else len(side.messages)
