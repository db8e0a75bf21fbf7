"""Find the JSON objects in a text that may hold more than them, in time that grows with its length only.

Comes in: a model's answer, of any length and in any state. Goes out: where each object in it ends, and which has a
field. Invariant: what is found is what `json.loads` would take there; no place of the text is parsed twice, so
a megabyte of braces takes a second and not minutes.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple


MOST_LEVELS = 400
"""An object that is nested deeper counts as none: nobody could compare it or write it again."""

SPACE = re.compile(r"[ \t\n\r]*")
STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"')
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
BEGINNING = re.compile(r'\{(?=[ \t\n\r]*")')
"""An object that is not empty."""
WORD = re.compile(r"null|true|false|NaN|-?Infinity")


class Place(NamedTuple):
    """What stands at an opening bracket."""

    end: int
    """Behind its closing bracket; 0 if there is no value here."""
    levels: int
    has_field: bool


NOTHING = Place(0, 0, False)


class Open:
    """A list or an object that is not closed yet."""

    def __init__(self, start: int, is_object: bool) -> None:
        self.start = start
        self.is_object = is_object
        self.is_empty = True
        self.has_field = False
        self.levels = 1


class Scan:
    """One pass over a text, in the order in which places are asked for."""

    def __init__(self, text: str, field: str) -> None:
        self.text = text
        self.field = field
        self._known: dict[int, Place] = {}

    def at(self, start: int) -> Place:
        """Return what stands at an opening brace."""
        if start not in self._known:
            self._read(start)
        return self._known[start]

    def _read(self, start: int) -> None:
        """Read the value at a place and all that is in it; where one breaks, so do all that are open around it."""
        stack = [Open(start, self.text[start] == "{")]
        place: int | None = start + 1
        while stack and place is not None:
            place = self._step(stack, place)
        for broken in stack:
            self._known[broken.start] = NOTHING

    def _step(self, stack: list[Open], place: int) -> int | None:
        """Read up to the end of one item, or into it; None where the text is not JSON."""
        top, text = stack[-1], self.text
        place = self._space(place)
        if text[place : place + 1] == ("}" if top.is_object else "]"):
            return self._close(stack, place + 1)
        if not top.is_empty:
            if text[place : place + 1] != ",":
                return None
            place = self._space(place + 1)
        top.is_empty = False
        if top.is_object:
            name = self._name(top, place)
            if name is None:
                return None
            place = name
        return self._value(stack, place)

    def _name(self, top: Open, place: int) -> int | None:
        """Read a name and its colon."""
        found = STRING.match(self.text, place)
        if not found:
            return None
        name = found[0]
        top.has_field |= (json.loads(name) if "\\" in name else name[1:-1]) == self.field
        place = self._space(found.end())
        return self._space(place + 1) if self.text[place : place + 1] == ":" else None

    def _value(self, stack: list[Open], place: int) -> int | None:
        """Read a value, or what is known of it; go into a list or an object that is not known yet."""
        first = self.text[place : place + 1]
        if first in ("{", "[") and first:
            known = self._known.get(place)
            if known is None:
                stack.append(Open(place, first == "{"))
                return place + 1
            stack[-1].levels = max(stack[-1].levels, known.levels + 1)
            return known.end or None
        found = STRING.match(self.text, place) or WORD.match(self.text, place) or NUMBER.match(self.text, place)
        return found.end() if found and not _is_too_long(found) else None

    def _close(self, stack: list[Open], end: int) -> int:
        """Take the innermost list or object as read."""
        done = stack.pop()
        self._known[done.start] = Place(end, done.levels, done.has_field)
        if stack:
            stack[-1].levels = max(stack[-1].levels, done.levels + 1)
        return end

    def _space(self, place: int) -> int:
        found = SPACE.match(self.text, place)
        return found.end() if found else place


def objects_with(text: str, field: str) -> Iterator[tuple[int, int]]:
    """Yield where each object that has a field of its own begins and ends, in the order of their beginnings."""
    scan = Scan(text, field)
    for brace in BEGINNING.finditer(text):
        found = scan.at(brace.start())
        if found.has_field and found.levels <= MOST_LEVELS:
            yield brace.start(), found.end


def first_object(text: str, field: str) -> dict[str, Any] | None:
    """Return the first JSON object that has a field of its own, None if there is none."""
    for start, end in objects_with(text, field):
        found: dict[str, Any] = json.loads(text[start:end])
        return found
    return None


def _is_too_long(found: re.Match[str]) -> bool:
    """Return whether a match is an integer of more digits than Python reads."""
    limit = sys.get_int_max_str_digits()
    if found.re is not NUMBER or found[2] or found[3]:
        return False
    return 0 < limit < len(found[1])
