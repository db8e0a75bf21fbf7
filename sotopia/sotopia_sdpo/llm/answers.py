"""What comes back from a model, and reading a JSON object out of it.

Invariant: what a model only thought of is never taken for its answer, nor is a draft for what follows it.
"""

import json
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sotopia_sdpo.llm.usage import Usage


WORD = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|cot)"
THOUGHT = re.compile(
    rf"(?P<open><{WORD}(?:\s[^<>{{}}]*)?>|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary)\b)"
    rf"|(?P<close></{WORD}>|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final\b[^{{}}]{{0,200}}?<\|message\|>)",
    re.IGNORECASE,
)
"""How models mark the beginning and the end of their thoughts, where the server leaves the marks in the text."""
OBJECT = re.compile(r'\{\s*["}]')
KEY = re.compile(r'"([^"\\]*)"\s*:')
INTEGER = re.compile(r"\s*([+-]?\d{1,9})(?:\.0*)?\s*")
STRAY_COMMA = re.compile(r",\s*[}\]]")
MAX_STRAY_COMMAS = 32
LONGEST_ANSWER = 50_000
"""Characters from the end that are looked at, so that a megabyte of the same holds up nothing else."""
MOST_BROKEN = 200
"""Objects that may begin and not be whole: each is read up to its fault, which may be the end of the text."""
DECODER = json.JSONDecoder()


class Answer(NamedTuple):
    """A model's answer."""

    text: str
    usage: Usage
    is_simulated: bool = False
    """Whether a scripted server gave it."""
    prompt_log_probs: tuple[float, ...] | None = None
    """Of the prompt's tokens but the first, where they were asked for and the server gives them."""


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
    # One after the other, so a mark can only stand within the last one that begins before it.
    spans = [(start, end) for start, end, value in _objects(text) if value is not None]
    kept, begin, is_thought = "", 0, False
    for mark in marks:
        before = bisect(spans, (mark.start(),)) - 1
        if before >= 0 and mark.start() < spans[before][1]:
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
    """Yield where every outermost JSON object begins and ends, and the object; None for a brace that begins none.

    Raises:
        AnswerError: if too many objects begin and are not whole.
    """
    faults = 0
    start = text.find("{")
    while start >= 0:
        value, end, more = _decode(text, start) if OBJECT.match(text, start) else (None, start + 1, 0)
        faults += more
        if faults > MOST_BROKEN:
            raise AnswerError(f"no JSON object that can be told from {MOST_BROKEN} that are not whole")
        yield start, end, value
        start = text.find("{", end)


def _decode(text: str, start: int) -> tuple[dict[str, Any] | None, int, int]:
    """Return the object that begins at a brace, where it ends, and its faults.

    A comma before a closing bracket is a fault that does no harm.
    """
    for faults in range(MAX_STRAY_COMMAS):
        try:
            value, end = DECODER.raw_decode(text, start)
            return value, end, faults
        except json.JSONDecodeError as err:
            comma = _stray_comma(text, err.pos)
            if comma < start:
                break
            text = f"{text[:comma]} {text[comma + 1 :]}"
        except (ValueError, RecursionError):  # a number without end, or braces without end
            break
    return None, start + 1, faults + 1


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
