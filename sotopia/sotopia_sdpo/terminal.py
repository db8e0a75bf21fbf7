"""Keep control characters of models, servers and files from the user's terminal.

Comes in: whatever a command prints. Goes out: the same, with control characters written out, and those that the
stream's encoding lacks. Invariant: a command has only this way to the terminal, but for what rich draws, which takes
texts that are printable already.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from sotopia_sdpo.text import printable


class SafeStream:
    """A stream that writes printable text only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            # A figure's `±` must not end a command under PYTHONIOENCODING=ascii or an old locale.
            stream.reconfigure(errors="backslashreplace")
        self.rich_proxied_file = stream
        """Under this name rich finds the stream that takes its colours."""

    def write(self, text: str) -> int:
        """Write a text."""
        self._stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_output() -> Iterator[None]:
    """Have everything that is printed inside pass through a SafeStream."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = SafeStream(sys.stdout), SafeStream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
