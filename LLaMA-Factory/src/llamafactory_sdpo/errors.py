"""The errors that are a user's to mend, the exit codes of our commands, and the edge where one becomes the other."""

import sys
from collections.abc import Callable


EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

EXIT_FILE = "SDPO_EXIT_FILE"
"""Environment variable: where a rank leaves the UserError that ended it."""


class UserError(ValueError):
    """The input is wrong: one line that says where, what was expected, what was found and what to do."""


def run_at_edge(command: Callable[[], int | None], prefix: str = "") -> int:
    """Run a command and return its exit code; what is a user's to mend becomes one line on stderr.

    Args:
        command: returns an exit code or None for 0; an exception that is nobody's input leaves as it is (exit code 1).
        prefix: what the line begins with, the config's name for instance.
    """
    try:
        return command() or 0
    except UserError as err:
        print(f"error: {prefix}{err}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
