"""Text that any database and any file takes, and text that may be printed."""

import re
from typing import Any


UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # a terminal takes these for commands
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # and these for orders to show what follows elsewhere
    "\ud800-\udfff]"  # and these cannot be written at all
)
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would compute, or one with apostrophes before such."""
LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
MOST_SHOWN = 2000
"""Characters of one line; a path may have as many."""


def whole_text(value: Any) -> Any:
    """Return a value with U+FFFD for halves of surrogate pairs, which broken JSON may hold and no database takes."""
    if isinstance(value, str):
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(key): whole_text(item) for key, item in value.items()}
    return value


def as_cell(text: str) -> str:
    """Return a text for a cell of CSV; what a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if FORMULA.match(text) else text


def of_cell(cell: str) -> str:
    """Return the text that `as_cell` has made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def printable(text: str) -> str:
    r"""Return a text with control characters written out (`\x1b`), so that no terminal obeys them."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_one_line(text: str) -> bool:
    """Return whether a text can stand in a line of a table as it is."""
    return not (LINE_BREAK.search(text) or UNPRINTABLE.search(text))


def one_line(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text as one printable line; a long one without its middle, since places and remedies stand outside."""
    line = printable(LINE_BREAK.sub(" ", text.strip()))
    return line if len(line) <= most else f"{line[: most * 2 // 3]} … {line[-(most // 3) :]}"
