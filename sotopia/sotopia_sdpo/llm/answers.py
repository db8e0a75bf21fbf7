"""What comes back from a model, and reading a JSON object out of it.

Invariant: what a model only thought of is never taken for its answer, nor is a draft for what follows it.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sotopia_sdpo.llm.usage import Usage


WORD = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad)"
THOUGHT = re.compile(
    rf"(?P<open><{WORD}>|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary)\b)"
    rf"|(?P<close></{WORD}>|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
"""How models mark the beginning and the end of their thoughts, where the server leaves the marks in the text."""
KEY = re.compile(r'"([^"\\]*)"\s*:')
INTEGER = re.compile(r"\s*([+-]?\d{1,9})(?:\.0*)?\s*")
STRAY_COMMA = re.compile(r",\s*[}\]]")
MAX_STRAY_COMMAS = 32
LONGEST_ANSWER = 50_000
"""Characters from the end that are looked at, so that a megabyte of the same holds up nothing else."""
DECODER = json.JSONDecoder()


class Answer(NamedTuple):
    """A model's answer."""

    text: str
    usage: Usage
    is_simulated: bool = False
    """Whether a scripted server gave it."""


class AnswerError(ValueError):
    """An answer is not what was asked for; the text says what is wrong with it."""


def find_object(text: str, field: str, spelled: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the last complete JSON object with this field, whatever stands around it, outside of thoughts.

    Args:
        text: a model's answer.
        field: what the object must have.
        spelled: gives the field that a key stands for.

    Raises:
        AnswerError: if there is none, or another one begins behind it and does not end.
    """
    answer = without_thoughts(text[-LONGEST_ANSWER:])
    found, broken = None, None
    for start, _, value in _objects(answer):
        held = list(_with_field(value, lambda one: any(spelled(key) == field for key in one)))
        if held:
            found, broken = held[-1], None
        elif value is None and broken is None:
            broken = start
    if found is None:
        raise AnswerError(f"no JSON object with {field!r} in {answer.strip()[:80]!r}")
    if broken is not None and any(spelled(key) == field for key in KEY.findall(answer, broken)):
        raise AnswerError(f"the last object is no whole JSON: {answer[broken:][:80]!r}")
    return found


def without_thoughts(text: str) -> str:
    """Return what a model says after its thoughts; marks within a JSON object are part of what it says.

    A mark of the end without one of the beginning, which some chat templates write into the prompt, ends thoughts too;
    thoughts that do not end are the rest of the text.
    """
    marks = list(THOUGHT.finditer(text))
    if not marks:
        return text
    spans = [(start, end) for start, end, value in _objects(text) if value is not None]
    kept, begin, is_thought = "", 0, False
    for mark in marks:
        if any(start < mark.start() < end for start, end in spans):
            continue
        if mark["close"]:
            kept = kept if is_thought else ""
            begin, is_thought = mark.end(), False
        elif not is_thought:
            kept += text[begin : mark.start()]
            is_thought = True
    return kept if is_thought else kept + text[begin:]


def as_integer(value: Any) -> int | None:
    """Return the integer that a value is, also where it is written as text ("7") or with a point (7.0)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (written := INTEGER.fullmatch(value)):
        return int(written[1])
    return value if isinstance(value, int) else None


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any] | None]]:
    """Yield where every outermost JSON object begins and ends, and the object; None for a brace that begins none."""
    start = text.find("{")
    while start >= 0:
        value, end = _decode(text, start)
        yield start, end, value
        start = text.find("{", end)


def _decode(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """Return the object that begins at a brace and where it ends; a comma before a closing bracket does no harm."""
    for _ in range(MAX_STRAY_COMMAS):
        try:
            value, end = DECODER.raw_decode(text, start)
            return value, end
        except json.JSONDecodeError as err:
            comma = _stray_comma(text, err.pos)
            if comma < start:
                break
            text = f"{text[:comma]} {text[comma + 1 :]}"
        except (ValueError, RecursionError):  # a number without end, or braces without end
            break
    return None, start + 1


def _stray_comma(text: str, place: int) -> int:
    """Return where the comma stands that is too much, if that is the fault which a decoder found here; else -1."""
    comma = place if text[place : place + 1] == "," else place - 1
    while comma > 0 and text[comma].isspace():
        comma -= 1
    return comma if STRAY_COMMA.match(text, comma) else -1


def _with_field(value: Any, holds: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Yield the outermost dictionaries of a value that hold something, in the order in which they are written."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict) and holds(one):
            yield one
        elif isinstance(one, dict | list):
            left.extend(reversed(one.values() if isinstance(one, dict) else one))
