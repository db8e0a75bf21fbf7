"""What a command has missed of its work: its exit code, and an account for the loop that has started it.

Comes in: counts. Goes out: the exit code; where ACCOUNT names a file, the counts and the first reason in it.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, EXIT_INCOMPLETE
from sotopia_sdpo.whole_files import write_whole


ACCOUNT = "SDPO_ACCOUNT"


class Missed(NamedTuple):
    """What has no result."""

    number: int
    total: int
    """Of all that was asked for, what an earlier run has done too."""
    unit: str
    """What is counted, in the plural."""
    reason: str = ""
    """Of most of them."""
    unscored: int = 0
    """Of them: episodes that came to their end, and on which the judge gave no verdict."""
    is_stopped: bool = False
    """Whether the rest was not tried, since a server or the database went away: nothing is known of it."""


def exit_code_of(missed: Missed) -> int:
    """Return how a command ends, and write the account if somebody wants it."""
    if path := os.environ.get(ACCOUNT):
        write_whole(Path(path), json.dumps(missed))
    return EXIT_INCOMPLETE if missed.number else EXIT_DONE


def read_account(path: Path) -> Missed | None:
    """Return what a command has written; None where it has not."""
    return Missed(*json.loads(path.read_text("utf-8"))) if path.exists() else None
