"""User-fixable errors, the exit codes of our commands, and the entry-point wrapper that turns one into the other."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

EXIT_FILE = "SDPO_EXIT_FILE"
"""Environment variable: the file in which a rank leaves the error that ended it, for the launcher to print."""


class UserError(ValueError):
    """The input is wrong: one line that says where, what was expected, what was found and what to do."""


class OptionError(UserError):
    """The value of an option is wrong.

    Attributes:
        key: of the option, which the entry points look up to say where it was given.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type["OptionError"], tuple[str, str]]:
        """Return how to make it again in another process."""
        return type(self), (self.key, str(self))


class TrainingFailed(Exception):
    """A training that began could not end well, in one line: its loss is not a number, or the disk is full."""


def one_line(err: BaseException) -> str:
    """Return an exception's message with its line breaks and runs of blanks folded."""
    return " ".join(str(err).split())


def printable(text: str) -> str:
    """Return a text of the user's with what a terminal or a UTF-8 file cannot take written as an escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def tell(text: str) -> None:
    """Print to stderr, whatever a file of others has put into the text; its lines stay lines."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


@contextmanager
def named(beginning: str) -> Iterator[None]:
    """Put the name of what is wrong before the UserErrors of a block."""
    try:
        yield
    except UserError as err:
        raise UserError(f"{beginning}{err}") from None


def kind(value: object) -> str:
    """Return the name of a JSON value's type as a user would say it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def place_of(err: UserError, config: object, overrides: Sequence[str]) -> str:
    """Return where what is wrong was given: the command line, if it holds the option, else the config."""
    key = getattr(err, "key", None)
    given = {item.partition("=")[0].partition(".")[0] for item in overrides}
    return "command line" if key in given else str(config)


@contextmanager
def given_in(config: object, overrides: Sequence[str]) -> Iterator[None]:
    """Say in the UserErrors of a block where what is wrong was given."""
    try:
        yield
    except UserError as err:
        raise UserError(f"{place_of(err, config, overrides)}: {err}") from None


def run_at_edge(command: Callable[[], int | None], prefix: str = "") -> int:
    """Run a command and return its exit code; a UserError or TrainingFailed becomes one line on stderr.

    Args:
        command: returns an exit code or None for 0; any other exception passes through (exit code 1).
        prefix: start of the line, the config's name for instance.
    """
    try:
        return command() or 0
    except UserError as err:
        tell(f"error: {prefix}{err}")
        return EXIT_INPUT
    except TrainingFailed as err:
        # A progress bar has left its line open.
        tell(f"\nerror: {err}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
