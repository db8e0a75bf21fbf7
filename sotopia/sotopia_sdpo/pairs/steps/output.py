"""How a step ends: its files are written, and one line sums up what it kept and dropped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import write_json


def write_kept(tally: Tally, what: str, files: Sequence[tuple[Path, list[Any]]], remedy: str = "") -> None:
    """Write what a step kept, and print the line.

    Args:
        tally: the counts of the step.
        what: the name of one of the things that it keeps.
        files: the paths and their records.
        remedy: what helps if there is none.

    Raises:
        UserError: if nothing was kept; then nothing is written.
    """
    if not tally.kept:
        raise UserError(f"no {what} is left: {tally.line()}{remedy}")
    write_json(files)
    print(tally.line([path for path, _ in files]))
