"""Turn records into preference pairs: two dialogues, and the agent turn from which on they are scored.

This is where pairs are validated. A pair is formed before anything may shuffle, split, subsample or shard, and from
here on it is one row. A pair that is wrong is not raised but carries its one-line `error`, so that the caller may
stop at it or count it.

Weights are no part of what is said: two messages that differ in weight alone are the same one. What both sides share
carries no loss whatever its weights, since the same tokens in the same context say nothing for one side or the other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..errors import UserError, printable
from ..stages import STAGES
from .formats import Format
from .gaps import gap_of
from .reading import Message, Side, Sides, agent_turns, is_agent, read_sides
from .splitting import MAX_SHOWN
from .weights import weight_of


Scope = Literal["segment", "turn"]
Unequal = Literal["stop", "warn", "truncate"]

NO_WIDTH = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
"""White space that takes no place and that Python does not count as such: zero-width space, word joiner, BOM."""


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

    @property
    def rows_are_of(self) -> str:
        """What encoded rows name as their stage: under another scope they are cut at another turn."""
        return self.stage if self.scope == "segment" else f"{self.stage} with segment_scope: {self.scope}"


class Pair(NamedTuple):
    """A pair as it is trained: both dialogues end with their last scored agent turn.

    Attributes:
        chosen: the better dialogue, a leading system message included.
        rejected: the worse one.
        tools: tool descriptions for the host's template, usually empty.
        first_turn: number (from 0) of the first agent turn that may be scored, the same on both sides; its weight may
            be 0.
        unequal: whether the sides have different numbers of scored turns.
        calls: whether there are tools, calls, results or an agent that speaks first: what not every template renders.
        origin: file and record numbers, for messages.
        error: the reason why the pair cannot be trained on, or ''.
        gap: how much better the chosen one went, 0 where nobody says.
    """

    chosen: list[Message]
    rejected: list[Message]
    tools: str
    first_turn: int
    unequal: bool
    calls: bool
    origin: str
    error: str
    gap: float = 0.0


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
        pair = _segment_pair(sides, rules, origin) if rules.is_of_segments else _session_pair(sides, origin)
        return pair._replace(gap=gap_of(records[-1]))
    except UserError as err:
        return Pair([], [], "", 0, False, False, origin, f"{origin}: {printable(str(err))}")


def first_difference(one: Side, other: Side) -> int | None:
    """Return the index of the first message that differs, or None if one dialogue is the beginning of the other.

    Raises:
        UserError: if it differs in white space only, which is no difference that anybody meant: a blank behind a
            shared turn would make it the first one that is scored.
    """
    for index, (a, b) in enumerate(zip(one.messages, other.messages, strict=False)):
        if _said(a) != _said(b):
            _check_visible(a, b, f"turn {index + one.shift}, the first that differs,")
            return index
    return None


def _said(message: Message) -> tuple[str, str]:
    """Return all of a message but its weight."""
    return message["role"], message["content"]


def _check_visible(one: Message, other: Message, name: str) -> None:
    """Refuse two different messages that look the same; blank ones may be meant."""
    visible = ["".join(message["content"].translate(NO_WIDTH).split()) for message in (one, other)]
    if visible[0] and visible[0] == visible[1] and one["role"] == other["role"]:
        raise UserError(f"{name} differs in white space only; write it the same way on both sides")


def _have_one_system(rejected: Side, chosen: Side) -> bool:
    """Return whether the system turns are the same; a difference in white space only is refused."""
    if rejected.system == chosen.system:
        return True
    for a, b in zip(rejected.system, chosen.system, strict=False):
        _check_visible(a, b, "the system turn")
    return False


def _session_pair(sides: Sides, origin: str) -> Pair:
    """Pair two whole sessions, which may differ from the start and in length; what they share is not scored."""
    rejected, chosen, _ = sides
    difference = first_difference(rejected, chosen) if _have_one_system(rejected, chosen) else 0
    # If one session is the beginning of the other, either side needs a turn that is scored.
    start = difference or 0
    ends = [_scored_ends(side, start, len(side.messages))[-1] for side in (rejected, chosen)]
    if difference is None and (len(rejected.messages) == len(chosen.messages) or ends[0] == ends[1]):
        raise UserError("the two dialogues never differ; remove the pair")
    return _pair(sides, start, ends, False, origin)


def _pair(sides: Sides, start: int, ends: list[int], unequal: bool, origin: str) -> Pair:
    """Return the pair of two sides that share what stands before `start`, each cut at its end."""
    rejected, chosen = (side.system + side.messages[:end] for side, end in zip(sides[:2], ends, strict=True))
    usual = ("system", "user", "assistant")
    calls = bool(sides.tools) or any(message["role"] not in usual for message in rejected + chosen)
    calls = calls or any(is_agent(side.messages[0]) for side in sides[:2])
    first_turn = agent_turns(sides.chosen.messages[:start])
    return Pair(chosen, rejected, sides.tools, first_turn, unequal, calls, origin, error="")


def _segment_pair(sides: Sides, rules: Rules, origin: str) -> Pair:
    """Pair two dialogues that share a history, and cut both at the end of what is scored."""
    rejected, chosen, _ = sides
    start = _segment_start(rejected, chosen)
    ends = [_scored_ends(side, start, _segment_end(side, start, rules.scope)) for side in (rejected, chosen)]
    turns = [len(side) for side in ends]
    unequal = turns[0] != turns[1]
    if unequal and rules.unequal == "stop":
        raise UserError(
            f"the segments have {turns[0]} (negative) and {turns[1]} (positive) agent turns to score; expected the "
            "same number, since a longer negative side collapses training; cut them alike, or set "
            "unequal_segments: truncate"
        )
    if unequal and rules.unequal == "truncate":
        ends, unequal = [side[: min(turns)] for side in ends], False
    return _pair(sides, start, [side[-1] for side in ends], unequal, origin)


def _segment_start(rejected: Side, chosen: Side) -> int:
    """Return the index of the first differing agent turn, which a given segment must confirm."""
    if not _have_one_system(rejected, chosen):
        raise UserError("the system turns differ; the two sides of a pair share their beginning")
    start = first_difference(rejected, chosen)
    if start is None:
        if len(rejected.messages) == len(chosen.messages):
            raise UserError("the two dialogues never differ; remove the pair")
        raise UserError("one dialogue is the beginning of the other, so they never differ; remove the pair")
    if not (is_agent(rejected.messages[start]) and is_agent(chosen.messages[start])):
        if start == 0:
            raise UserError("the first human turns differ; the two sides of a pair share their beginning")
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


def _scored_ends(side: Side, start: int, end: int) -> list[int]:
    """Return the index after each agent turn of [start, end) that carries loss; what follows the last is not needed.

    Raises:
        UserError: if there is none, since all of them have weight 0.
    """
    turns = [index for index in range(start, end) if is_agent(side.messages[index])]
    ends = [index + 1 for index in turns if weight_of(side.messages[index]) != 0]
    if not ends:
        which = ", ".join(str(index + side.shift) for index in turns[:MAX_SHOWN])
        raise UserError(
            f"{side.name}: every turn to be scored has weight 0 (turn {which}); weigh one above 0, or remove the pair"
        )
    return ends
