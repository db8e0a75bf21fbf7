"""Read a JSON file value by value, so that memory does not grow with the file.

Comes in: JSON lines, one list, or one object. Goes out: its records, or the object's members. Invariant: no more of
the file is held than about twice its longest value; what cannot be read is one line with the file and the record.
"""

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.text import whole_text


CHUNK_BYTES = 1 << 20
BLANK = " \t\r\n"
LONGEST_TOKEN = 30
"""Characters of what the end of a chunk may cut: a word, an escape, a number."""
MOST_SHOWN = 40


def records(path: Path) -> Iterator[Any]:
    """Yield the items of a list, or the values that stand one after the other.

    Raises:
        UserError: if the file cannot be read, is not JSON, or holds nothing.
    """
    with opened(path) as text:
        yield from text.items() if text.peek() == "[" else text.values()


def members(path: Path, streamed: str) -> Iterator[tuple[str, Any]]:
    """Yield the members of an object; for the one that is named, a list, once for each item.

    Raises:
        UserError: if the file cannot be read, or is not one JSON object.
    """
    with opened(path) as text:
        yield from text.members(streamed)
        if text.peek():
            raise text.error("one object is expected, and it goes on")


@contextmanager
def opened(path: Path) -> Iterator["Text"]:
    """Open a file for reading value by value.

    Raises:
        UserError: if it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            text = Text(path, file)
            if not text.peek():
                raise UserError(f"{path}: the file is empty; expected the log of a run")
            yield text
    except OSError as err:
        raise UserError(f"{path}: cannot be read ({err.strerror or err})") from err


class Text:
    """The rest of a file, decoded as it is needed."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Start at the beginning of the file."""
        self._path = path
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._record = 0
        """The number of the record that is being read, as users count them."""

    def peek(self) -> str:
        """Return the next character that is not white space, or '' at the end."""
        while self._at < len(self._text) or self._more():
            if self._text[self._at] not in BLANK:
                return self._text[self._at]
            self._at += 1
        return ""

    def value(self) -> Any:
        """Read the next value; halves of surrogate pairs become U+FFFD.

        Raises:
            UserError: if it is not JSON.
        """
        self.peek()
        while True:
            start = self._at
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as err:
                is_cut = err.msg.startswith("Unterminated") or err.pos > len(self._text) - LONGEST_TOKEN
                if not (is_cut and self._more()):
                    raise self.error(f"not JSON ({err.msg})", err.pos - start) from err
            except RecursionError as err:
                raise self.error("nested too deeply") from err
            except ValueError as err:
                # A number of thousands of digits; what follows is meant for programmers.
                raise self.error(str(err).partition(";")[0]) from err
            else:
                # What ends with the chunk may go on: 1 of 12, or of 1.5.
                if end < len(self._text) - LONGEST_TOKEN or not self._more():
                    return self._taken(value, end - start)

    def _taken(self, value: Any, length: int) -> Any:
        """Step over a value's text, and return it."""
        try:
            whole = whole_text(value)
        except RecursionError as err:  # the decoder goes deeper
            raise self.error("nested too deeply") from err
        self._at += length
        return whole

    def values(self) -> Iterator[Any]:
        """Read the values that stand one after the other."""
        while self.peek():
            yield self.value()
            self._record += 1

    def items(self) -> Iterator[Any]:
        """Read the items of a list."""
        for _ in self._inside("[", "]"):
            yield self.value()
            self._record += 1

    def members(self, streamed: str) -> Iterator[tuple[str, Any]]:
        """Read the members of an object; of the one that is named, item by item."""
        for _ in self._inside("{", "}"):
            name = str(self.value())
            self._take(":")
            if name == streamed and self.peek() == "[":
                yield from ((name, item) for item in self.items())
            else:
                yield name, self.value()

    def _inside(self, opening: str, closing: str) -> Iterator[None]:
        """Stop at each thing between two brackets."""
        self._take(opening)
        if self.peek() == closing:
            self._take(closing)
            return
        mark = ","
        while mark == ",":
            yield
            mark = self._take(f",{closing}")

    def _take(self, expected: str) -> str:
        """Step over the next character, which is one of those expected."""
        found = self.peek()
        if not found or found not in expected:
            raise self.error(f"expected {' or '.join(map(repr, expected))}")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Decode as much again as is held, so that a long value is scanned few times; False at the end of the file."""
        chunk = self._file.read(max(CHUNK_BYTES, len(self._text) - self._at))
        try:
            new = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as err:
            raise UserError(f"{self._path}: not UTF-8 text ({err.reason}); expected the log of a run") from err
        self._text, self._at = self._text[self._at :] + new, 0
        return bool(new) or (bool(chunk) and self._more())

    def error(self, reason: str, ahead: int = 0) -> UserError:
        """Return the error of the record that is being read, with what stands so many characters ahead."""
        shown = self._text[self._at + ahead :][:MOST_SHOWN]
        found = f"found {shown!r}" if shown.strip() else "the file ends there"
        return UserError(f"{self._path} record {self._record}: {reason}, {found}; write the file again")
