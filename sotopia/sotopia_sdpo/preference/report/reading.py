"""Read a file of preference pairs: records 2i and 2i + 1 are the negative and the positive.

Comes in: the path of a ShareGPT list, ours or one with conversations alone. Goes out: pairs of records as they stand.
Invariant: what is read can be shown: turns are text, scores are finite, a segment and a location lie in the dialogue.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.dialogue import check_location
from sotopia_sdpo.errors import UserError


SIDES = ("negative", "positive")
SPEAKERS = ("system", "human", "gpt")
SHOWN = 80
"""Characters of a wrong value that a message repeats."""

Record = dict[str, Any]


class Pair(NamedTuple):
    """Two dialogues of one agent, as records of the file."""

    negative: Record
    positive: Record


def read_pairs(path: Path, writer: str) -> list[Pair]:
    """Read and check all pairs of a file.

    Args:
        path: the file.
        writer: the script that writes it, for the messages.

    Raises:
        UserError: if it is not there, not such a list, or a record of it is not in order; one line that says where.
    """
    records = _load(path, writer)
    again = f"mend it, or run {writer} again"
    for number, record in enumerate(records):
        try:
            _check_record(record)
            _check_place(record, number, records)
        except ValueError as err:
            raise UserError(f"{path} record {number}: {err}; {again}") from err
    if len(records) % 2:
        raise UserError(
            f"{path}: expected an even number of records, negative and positive in turn, found {len(records)}; {again}"
        )
    return [Pair(*sides) for sides in zip(records[::2], records[1::2], strict=True)]


def _load(path: Path, writer: str) -> list[Any]:
    """Read the list, whatever it holds."""
    if not path.is_file():
        raise UserError(f"{path}: expected a file of preference pairs, found none; {writer} writes it")
    try:
        found = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"{path}: cannot be read as JSON ({err}); run {writer} again") from err
    if not isinstance(found, list) or not found:
        kind = "an empty list" if found == [] else f"a JSON {type(found).__name__}"
        raise UserError(f"{path}: expected a list of records, found {kind}; run {writer} again")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _check_record(record: Any) -> None:
    """Make sure that what the page shows of a record has its form."""
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not turns:
        raise ValueError("expected 'conversations', a list of turns, found none")
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS or not isinstance(turn.get("value"), str):
            raise ValueError(f"turn {index}: expected 'from' (system, human or gpt) and 'value' (text)")
    for form in FORMS:
        for field in form.fields:
            value = record.get(field)
            if value is not None and not form.fits(value):
                raise ValueError(f"{field} is {_short(value)}, expected {form.words}")
    if record.get("segment") is not None:
        _check_segment(record["segment"], len(turns))


def _check_segment(segment: Any, length: int) -> None:
    if not isinstance(segment, list) or len(segment) != 2 or not all(type(bound) is int for bound in segment):
        raise ValueError(f"segment is {_short(segment)}, expected [start, end]")
    if not 0 <= segment[0] < segment[1] <= length:
        raise ValueError(f"segment {segment} is not in the dialogue of {length} turns (it is [start, end), from 0)")


def _check_place(record: Record, number: int, records: list[Any]) -> None:
    """Make sure that a record stands on the side it names, beside its own other side."""
    expected = SIDES[number % 2]
    if (side := record.get("side", expected)) != expected:
        raise ValueError(f"side is {_short(side)}, expected {expected!r}: records are negative and positive in turn")
    if number % 2 == 0:
        if (location := record.get("location")) is not None:
            if type(location) is not int:
                raise ValueError(f"location is {_short(location)}, expected an index of conversations")
            check_location(record["conversations"], location)
    elif (pair := record.get("pair")) != (before := records[number - 1].get("pair")):
        raise ValueError(f"pair is {_short(pair)}, expected {_short(before)} as in the record before it")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Form(NamedTuple):
    """What some optional fields hold."""

    fields: tuple[str, ...]
    fits: Callable[[Any], bool]
    words: str


FORMS = (
    Form(("goal", "relationship", "goal_gain", "relationship_gain"), _is_number, "a number"),
    Form(("pair", "episode", "env", "reason", "location_reason"), _is_text, "text"),
    Form(("agents",), _is_ids, "a list of ids"),
    Form(("agent_position",), lambda value: type(value) is int and value in (0, 1), "0 or 1"),
)
