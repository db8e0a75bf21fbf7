"""The errors that are a user's to mend, the exit codes of our commands, and the edge where one becomes the other."""

import sys
from collections.abc import Callable


EXIT_DONE = 0
EXIT_INPUT = 2
EXIT_INCOMPLETE = 3
EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130


class UserError(ValueError):
    """The input is wrong: one line that says where, what was expected, what was found and what to do."""


def run_at_edge(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; what is a user's to mend becomes one line on stderr.

    Args:
        command: returns an exit code, or None for 0; any other exception leaves as it is (exit code 1, a bug).
    """
    try:
        return command() or EXIT_DONE
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
