"""User-fixable errors, the exit codes of our commands, and the wrapper of their entry points."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sotopia_sdpo.places import typed
from sotopia_sdpo.terminal import safe_output
from sotopia_sdpo.text import one_line


if TYPE_CHECKING:
    from pydantic import ValidationError

EXIT_DONE = 0
EXIT_INPUT = 2
EXIT_INCOMPLETE = 3
EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class UserError(ValueError):
    """The input is wrong: one line with the place, what was expected, what was found and what to do."""

    exit_code = EXIT_INPUT

    def __str__(self) -> str:
        """Return the line, whatever a file or a server has put into it."""
        return typed(one_line(super().__str__()))


def run_at_edge(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; a UserError becomes one line on stderr.

    Args:
        command: returns an exit code, or None for 0; any other exception leaves as it is (exit code 1, a bug).
    """
    try:
        with safe_output(), _interrupted_when_terminated():
            return command() or EXIT_DONE
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


@contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on a Ctrl-C, so that no draft is left; what is ignored stays so (nohup)."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in ENDING_SIGNALS if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def first_reason(err: "ValidationError") -> str:
    """Return in one line the first thing that is wrong with an object."""
    first = err.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    text = first["msg"].removeprefix("Value error, ")
    is_told = first["type"] in ("missing", "value_error")
    found = "" if is_told or not place else f", found {_short(first['input'])}"
    return f"{place}: {text}{found}" if place else text


def _short(value: Any) -> str:
    """Return a value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
