"""Check the files in which `datasets` keeps encoded pairs, and remove damaged ones, so that they are made again.

Beside every file stands its checksum, written when it is first opened, which is when `datasets` has just written it.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from ..whole_files import write_whole


logger = logging.getLogger(__name__)

SUFFIX = ".sha256"
Rows = TypeVar("Rows")


class Damaged(Exception):
    """A kept file is not what was written; the argument is its path."""


class Checked:
    """Opens kept files as `datasets` does, after a check of each."""

    def __init__(self, opens: Callable[[str], Any]) -> None:
        self._opens = opens
        self._seen: set[str] = set()

    def __call__(self, filename: str) -> Any:
        """Open a file.

        Raises:
            Damaged: if it does not fit its checksum, or cannot be read.
        """
        try:
            if filename not in self._seen:
                _check(Path(filename))
            table = self._opens(filename)
        except (FileNotFoundError, PermissionError, Damaged):
            raise
        except (OSError, SystemError, OverflowError, ValueError, EOFError, NotImplementedError, RuntimeError):
            # Which of them depends on where the damage is.
            raise Damaged(str(filename)) from None
        self._seen.add(filename)
        return table


def _check(path: Path) -> None:
    """Compare a file with its checksum, or write that if there is none."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    kept = path.with_name(path.name + SUFFIX)
    if kept.is_file():
        if kept.read_text(encoding="ascii", errors="replace").strip() != digest:
            raise Damaged(str(path))
        return
    try:
        write_whole(kept, digest.encode())
    except OSError as err:
        logger.warning("the checksum of %s is not kept: %s", path, err)


def made_again(load: Callable[[], Rows], keep_folder: str | None) -> Rows:
    """Load rows, and once more for every kept file that is damaged.

    Args:
        load: reads or makes them, with a `Checked` in the place of the function of `datasets`.
        keep_folder: a folder of the user's, whose files are not removed.

    Raises:
        UserError: if a file is damaged again, or is the user's.
    """
    removed: set[str] = set()
    while True:
        try:
            return load()
        except Damaged as err:
            path = str(err)
            if keep_folder and Path(path).resolve().is_relative_to(Path(keep_folder).resolve()):
                raise UserError(
                    f"tokenized_path {keep_folder}: {path} is damaged; remove the folder, and it is written again"
                ) from None
            if path in removed:
                raise UserError(f"{path} is damaged again after it was written anew; look at the disk") from None
            logger.warning("%s is damaged; its pairs are read and encoded again", path)
            removed.add(path)
            remove(Path(path))


def remove(path: Path) -> None:
    """Remove a kept file, so that `datasets` makes it again; for a generator's that takes its whole folder."""
    if not path.name.startswith("cache-") and (path.parent / "dataset_info.json").is_file():
        shutil.rmtree(path.parent, ignore_errors=True)
    for file in (path, path.with_name(path.name + SUFFIX)):
        file.unlink(missing_ok=True)
