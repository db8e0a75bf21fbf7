"""Write files that appear whole or not at all.

Comes in: paths and what is written for them. Goes out: files that hold all of it, on the disk by then, so that a
machine that loses power keeps the old ones or the new ones. Invariant: what fails, or is interrupted, leaves no draft.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TextIO


Draft = Callable[[Path], AbstractContextManager[TextIO]]
"""Opens the draft of a file, which is on the disk when the block ends."""


@contextmanager
def whole_files() -> Iterator[Draft]:
    """Give drafts of files, which take their places, one after the other, when the block ends without an error.

    Raises:
        OSError: if one cannot be written; no file has been replaced then, unless its folder lets only some be.
    """
    made: list[tuple[Path, Path]] = []

    @contextmanager
    def draft(path: Path) -> Iterator[TextIO]:
        if not path.name:  # `.` and `/`, of which there is no draft beside them
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        made.append((aside, path))
        with aside.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    try:
        yield draft
        for aside, path in made:
            aside.replace(path)
        for folder in {path.parent for _, path in made}:
            _sync(folder)
    finally:
        for aside, _ in made:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write one file in one step.

    Raises:
        OSError: if it cannot be written.
    """
    with whole_files() as draft, draft(path) as file:
        file.write(text)


def _sync(folder: Path) -> None:
    """Bring the names in a folder onto the disk, where its file system does that."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
