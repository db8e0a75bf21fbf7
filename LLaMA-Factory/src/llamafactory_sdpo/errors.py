"""User-fixable errors, the exit codes of our commands, and the entry-point wrapper that turns one into the other."""

import sys
from collections.abc import Callable


EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

EXIT_FILE = "SDPO_EXIT_FILE"
"""Environment variable: the file in which a rank leaves the UserError that ended it."""


class UserError(ValueError):
    """The input is wrong: one line that says where, what was expected, what was found and what to do."""


def one_line(err: BaseException) -> str:
    """Return an exception's message with its line breaks and runs of blanks folded."""
    return " ".join(str(err).split())


def printable(text: str) -> str:
    """Return a text of the user's with what a terminal or a UTF-8 file cannot take written as an escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def run_at_edge(command: Callable[[], int | None], prefix: str = "") -> int:
    """Run a command and return its exit code; a UserError becomes one line on stderr.

    Args:
        command: returns an exit code or None for 0; any other exception passes through (exit code 1).
        prefix: start of the line, the config's name for instance.
    """
    try:
        return command() or 0
    except UserError as err:
        print(f"error: {prefix}{err}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
