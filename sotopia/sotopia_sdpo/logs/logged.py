"""What every reader of logs gives: one dialogue's messages with what they came to, or why it cannot be used.

Comes in: fields of others, of any type. Goes out: checked values, or `Unusable` in the same words for all of a kind.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.logs.messages import Unusable
from sotopia_sdpo.outcomes import Outcome, check_number
from sotopia_sdpo.text import whole_text


OUTCOME_KEYS = ("reward", "score", "label")
"""Where the record of a chat usually has what it came to."""
TASK_KEYS = ("task", "task_id", "prompt_id")
MOST_NESTED = 50
"""Levels of a tool's description; a writer of JSON has its limits."""


class Logged(NamedTuple):
    """One dialogue of a log."""

    messages: Any
    """OpenAI chat messages, as they were found."""
    outcomes: list[Outcome]
    task: str
    """What was asked of the agent, by name."""
    trial: int | None = None
    """None where the log does not count them."""
    tools: list[dict[str, Any]] | None = None
    agent_model: str | None = None
    asked: str | None = None
    """What was asked in words, where the name alone may stand for two things."""


class Reader(NamedTuple):
    """How one format is read."""

    says: str
    """What users call it, which becomes the `source` of a record."""
    key: str
    """The field of a record, or of the whole file, by which the format is known."""
    records: Callable[[Path], Iterator[Any]]
    """Yields the records of a file; a UserError ends it."""
    logged: Callable[[Any, Sequence[str]], Logged]
    """Reads one record; also told the names of outcomes to look for. Raises Unusable."""


def outcome(name: str, value: Any, low: float | None = None, high: float | None = None) -> Outcome:
    """Return an outcome; yes and no are 1 and 0 of that range.

    Raises:
        Unusable: if there is none, or it is not a number, or not in its range.
    """
    if value is None:
        raise Unusable("without an outcome")
    if isinstance(value, bool):
        return Outcome(name, int(value), 0, 1)
    try:
        found = Outcome(name, check_number(value), low, high)
    except ValueError as err:
        raise Unusable("with an outcome that is not a number") from err
    if not found.is_in_range:
        raise Unusable("with an outcome outside its range")
    return found


def outcomes_of(record: Mapping[str, Any], names: Sequence[str]) -> list[Outcome]:
    """Return the outcomes that stand in a record under their names; a label may be a word beside a reward.

    Raises:
        Unusable: if there is none, or one that is asked for is not a number.
    """
    found, faults = [], [Unusable("without an outcome")]
    for name in dict.fromkeys([*OUTCOME_KEYS, *names]):
        try:
            found += [outcome(name, record[name])] if record.get(name) is not None else []
        except Unusable as err:
            faults.append(err)
            if name in names:
                raise
    if not found:
        raise faults[-1]
    return found


def numbers(values: Any, low: float | None = None, high: float | None = None, before: str = "") -> list[Outcome]:
    """Return what is a number among some named values."""
    found = []
    for name, value in values.items() if isinstance(values, dict) else ():
        try:
            found.append(outcome(f"{before}{name}", value, low, high))
        except Unusable:
            continue
    return found


def fields_of(record: Any) -> dict[str, Any]:
    """Return a record that is an object.

    Raises:
        Unusable: if it is not.
    """
    if not isinstance(record, dict):
        raise Unusable("that are not objects")
    return record


def task_of(record: Mapping[str, Any], messages: Any) -> str:
    """Name the task of a record: by its own name, else by what stands before the agent's first turn."""
    named = next((record[key] for key in TASK_KEYS if isinstance(record.get(key), str | int)), None)
    if named is not None:
        return str(named)
    opening = []
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("role") == "assistant":
            break
        opening.append(message)
    return hashlib.sha256(json.dumps(opening, sort_keys=True).encode()).hexdigest()[:12]


def whole_number(value: Any) -> int | None:
    """Return a trial's number, where it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text_or_none(value: Any) -> str | None:
    """Return a name, where it is one."""
    return value if isinstance(value, str) and value else None


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Return descriptions of tools, which may be written as JSON; None where there are none.

    Raises:
        Unusable: if they are something else.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as err:
            raise Unusable("with tools that are not JSON") from err
    if not value:
        return None
    is_list = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    if not is_list or _is_nested(value, MOST_NESTED):
        raise Unusable("with tools that are not a list of descriptions")
    return [whole_text(one) for one in value]


def _is_nested(value: Any, most: int) -> bool:
    """Return whether a value is nested deeper than so many levels."""
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most < 0 or any(_is_nested(one, most - 1) for one in inside)
