"""Read the records of a JSON file one by one, so that memory does not grow with the file.

A file is one JSON list, or JSON values one after the other (JSON Lines), plain or gzipped; both give (record number,
value), counted from 0. A file that cannot be read to its end raises a UserError that names the record it stopped at.
"""

import codecs
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ..errors import UserError, one_line


CHUNK_BYTES = 1 << 20
MAX_RECORD_CHARS = 1 << 26
"""A longer record is refused, so that a stray quotation mark does not read a whole disk."""

_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"
_LONGEST_MARK = 20
"""Characters of the longest word, number sign or escape that a text may end inside of."""


class _Text:
    """The undecoded rest of a file as text that grows on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = ""
        self.at = 0
        self._file = cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb"))
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._bytes_read = 0

    def close(self) -> None:
        self._file.close()

    def more(self, wanted: int = 0) -> bool:
        """Append the next chunk, of so many bytes if that is more than usual; False at the end of the file."""
        try:
            chunk = self._file.read(max(CHUNK_BYTES, wanted))
        except (OSError, EOFError, zlib.error) as err:
            raise UserError(f"{self.path} cannot be read ({one_line(err)}); write the file again") from None
        try:
            new = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as err:
            where = max(self._bytes_read + err.start, 0)
            raise UserError(f"{self.path} is not UTF-8 (near byte {where}); save it as UTF-8") from None
        self._bytes_read += len(chunk)
        self.text, self.at = self.text[self.at :] + new, 0
        return bool(chunk)

    def peek(self) -> str:
        """Skip white space and return the next character, or '' at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANK:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return self.text[self.at : self.at + 1]

    def value(self, number: int) -> object:
        """Decode the next value; `number` is for the message only."""
        self.peek()
        record = f"{self.path} record {number}"
        while True:
            try:
                value, self.at = _DECODER.raw_decode(self.text, self.at)
                return value
            except RecursionError:
                raise UserError(f"{record} is nested too deeply to be a dialogue") from None
            except json.JSONDecodeError as err:
                length = len(self.text) - self.at
                if _may_go_on(err):
                    if length >= MAX_RECORD_CHARS:
                        raise UserError(
                            f"{record} is longer than {MAX_RECORD_CHARS:,} characters, the limit of a record; "
                            "shorten it, or close the quotation mark or bracket that is open"
                        ) from None
                    # As much again: what is decoded anew never adds up to more than the record's own length.
                    if self.more(length):
                        continue
                shown = self.text[err.pos : err.pos + 30]
                found = f"found {shown!r}" if shown.strip() else "the file ends inside it"
                raise UserError(f"{record} is not JSON ({err.msg}, {found}); write the file again") from None
            except ValueError:
                digits = sys.get_int_max_str_digits()
                raise UserError(f"{record} has a number of more than {digits:,} digits; shorten it") from None


def _may_go_on(err: json.JSONDecodeError) -> bool:
    """Return whether more text could mend the error, which is then an open string or stands at the end."""
    return err.msg.startswith("Unterminated") or err.pos > len(err.doc.rstrip(_BLANK)) - _LONGEST_MARK


def read_records(path: Path) -> Iterator[tuple[int, object]]:
    """Yield (number, value) for every record of a JSON or JSON Lines file.

    Raises:
        UserError: if the file is missing, empty, not UTF-8, not JSON, or ends too early.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    text = _Text(path)
    try:
        first = text.peek()
        if not first:
            raise UserError(f"{path} is empty; expected a JSON list of records")
        if first == "[":
            text.at += 1
            yield from _list_items(text)
        else:
            number = 0
            while text.peek():
                yield number, text.value(number)
                number += 1
    finally:
        text.close()


def _list_items(text: _Text) -> Iterator[tuple[int, object]]:
    """Yield the items of the list whose opening bracket has just been read."""
    number = 0
    closed = text.peek() == "]"
    if closed:
        text.at += 1
    while not closed:
        yield number, text.value(number)
        number += 1
        mark = text.peek()
        if mark not in (",", "]"):
            found = repr(mark) if mark else "the end of the file"
            raise UserError(
                f"{text.path} after record {number - 1}: expected ',' or ']', found {found}; "
                "the list is cut off or broken"
            )
        text.at += 1
        closed = mark == "]"
    if text.peek():
        raise UserError(f"{text.path} goes on after its list with {text.peek()!r}; expected one JSON list")
