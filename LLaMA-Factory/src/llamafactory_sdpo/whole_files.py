"""Write a file or a folder that appears whole or not at all, and leave no draft behind."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step; it is on the disk by then.

    Raises:
        OSError: if it cannot be written; it keeps what it held.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems have no such step
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def place_folder(draft: Path, folder: Path, mark: str) -> None:
    """Move a folder into its place, unless another process was first, whose readers may have begun.

    Args:
        draft: the folder, on the same disk.
        folder: its place; what is there without the mark is replaced.
        mark: the name of a file that a whole folder has.
    """
    try:
        # Fails where there is one that is not empty.
        draft.rename(folder)
    except OSError:
        if (folder / mark).is_file():
            shutil.rmtree(draft, ignore_errors=True)
            return
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
