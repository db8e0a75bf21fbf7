"""What a step is doing, while it does it: on a terminal, the last line of its log behind the step's own beginning.

Comes in: the beginning of a line, and a log that grows. Goes out: the line, written again and again in its place. A
pipe or a file gets nothing of it.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import TextIO

from sotopia_sdpo.text import printable


EVERY_S = 1.0
TAIL = 4096
"""Bytes of a log in which its last line is looked for."""
TO_LINE_START, ERASE_REST = "\r", "\x1b[K"


class Live:
    """A line that changes; nothing where no terminal shows it."""

    def __init__(self, head: str, log: Path, stream: TextIO | None = None) -> None:
        """Take the beginning of the line, which is printed by now, and the log.

        Args:
            head: the beginning.
            log: the file.
            stream: where to write; by default standard output.
        """
        # Control characters are kept from the terminal elsewhere; these two are ours.
        stream = stream or sys.stdout
        self._stream: TextIO = getattr(stream, "rich_proxied_file", stream)
        self._head, self._log, self._shown, self._at = head, log, "", time.monotonic()
        self._is_on = self._stream.isatty()

    def look(self) -> None:
        """Show the last line of the log, at most once in a while."""
        if not self._is_on or time.monotonic() < self._at + EVERY_S:
            return
        self._at = time.monotonic()
        room = shutil.get_terminal_size().columns - len(self._head) - 1
        line = printable(last_line(self._log))[: max(room, 0)]
        if line != self._shown:
            self._write(line)
            self._shown = line

    def clear(self) -> None:
        """Leave the beginning alone on its line."""
        if self._shown:
            self._write("")
            self._shown = ""

    def _write(self, line: str) -> None:
        self._stream.write(f"{TO_LINE_START}{self._head}{line}{ERASE_REST}")
        self._stream.flush()


def last_line(log: Path) -> str:
    """Return the last line of a file that has text, or nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
