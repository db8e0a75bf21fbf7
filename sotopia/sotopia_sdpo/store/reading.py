"""Read a file or another database, whatever kind it is, one entry at a time.

Comes in: a Redis snapshot, an SQLite file of ours, JSON lines or JSON; or the URL of another database. Goes out:
entries for Store.put_entries, in the order of the file. Invariants: a JSON-lines file and a snapshot stream, whatever
their size; the first thing that is wrong ends it, and its line names the file and the record.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.rdb.snapshot import MAGIC as RDB_MAGIC
from sotopia_sdpo.rdb.snapshot import read_rdb
from sotopia_sdpo.store.base import PROFILE_KINDS, Entry, Store
from sotopia_sdpo.store.documents import DOCUMENT_CLASSES, NotAnEntry, to_entry
from sotopia_sdpo.store.opening import open_store
from sotopia_sdpo.store.urls import SQLITE_PREFIX, is_url


SQLITE_MAGIC = b"SQLite format 3\x00"
GZIP_MAGIC = b"\x1f\x8b"
LONGEST_MAGIC = 16
SPLITS_HINT = "; it looks like a file of scenario ids by stage, which --splits takes"


def read_source(source: str, skipped: Counter[str]) -> Iterator[Entry]:
    """Yield the entries of a file or of another database.

    Args:
        source: a path, or a URL as `--db` takes it.
        skipped: what is not ours is counted here, by what it is.

    Raises:
        UserError: if it cannot be read, is damaged, or holds something else.
    """
    if is_url(source):
        with open_store(source, create=False) as store:
            yield from _read_store(store)
        return
    path = Path(source)
    try:
        with path.open("rb") as file:
            magic = file.read(LONGEST_MAGIC)
        if not magic:
            raise UserError(f"{path}: the file is empty")
        if magic.startswith(SQLITE_MAGIC):
            yield from read_source(f"{SQLITE_PREFIX}{path.absolute()}", skipped)
        elif magic.startswith(RDB_MAGIC):
            yield from _read_snapshot(path, skipped)
        elif magic.startswith(GZIP_MAGIC):
            raise UserError(f"{path}: the file is compressed; unpack it with gunzip first")
        else:
            yield from _read_text(path)
    except OSError as err:
        raise UserError(f"{path}: {err.strerror or err}") from err


def _read_store(store: Store) -> Iterator[Entry]:
    """Yield every entry of another database."""
    for kind in PROFILE_KINDS:
        for profile in store.profiles(kind):
            yield kind, profile
    for episode in store.episodes():
        yield "episodes", episode


def _read_snapshot(path: Path, skipped: Counter[str]) -> Iterator[Entry]:
    """Yield upstream's documents of a Redis snapshot."""
    found = False
    for entry in read_rdb(path):
        before, _, pk = entry.key.rpartition(":")
        name = before.rpartition(".")[2]
        if name not in DOCUMENT_CLASSES or not isinstance(entry.document, dict):
            skipped[name or "unnamed JSON"] += 1
            continue
        document = {**entry.document, "pk": entry.document.get("pk") or pk}
        try:
            yield to_entry(document, DOCUMENT_CLASSES[name])
        except NotAnEntry as err:
            raise UserError(f"{path} byte {entry.offset}, key {entry.key}: {err}") from err
        found = True
    if not found:
        raise UserError(f"{path}: the snapshot holds no documents of SOTOPIA")


def _read_text(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file of JSON lines or of one JSON list or object."""
    found = False
    try:
        with path.open(encoding="utf-8-sig") as file:
            for place, data in _objects(path, file):
                try:
                    yield to_entry(data)
                except NotAnEntry as err:
                    raise UserError(f"{path} {place}: {err}{_hint(data)}") from err
                found = True
    except UnicodeDecodeError as err:
        raise UserError(
            f"{path}: not UTF-8 text ({err.reason}); expected JSON, JSON lines or a Redis snapshot"
        ) from err
    if not found:
        raise UserError(f"{path}: the file holds no records")


def _objects(path: Path, file: TextIO) -> Iterator[tuple[str, Any]]:
    """Yield each object and its place: line by line if the first line is a whole object, else all at once."""
    lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
    first_line, first = next(lines, (1, ""))
    try:
        whole = not isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        whole = True
    if whole:
        yield from _whole(path, first + file.read(), first_line)
        return
    for number, line in chain([(first_line, first)], lines):
        yield f"line {number}", _parse(path, line, number)


def _whole(path: Path, text: str, first_line: int) -> Iterator[tuple[str, Any]]:
    """Yield the objects of one JSON text: the items of a list, or the one object that it is."""
    data = _parse(path, text, first_line) if text.strip() else []
    for number, item in enumerate(data if isinstance(data, list) else [data], 1):
        yield f"record {number}", item


def _parse(path: Path, text: str, first_line: int) -> Any:
    """Parse JSON; a UserError names the line of the file that is wrong."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        line = first_line + err.lineno - 1
        raise UserError(f"{path} line {line} column {err.colno}: not JSON ({err.msg}); nothing was imported") from err
    except ValueError as err:
        # A number of thousands of digits; what follows is meant for programmers.
        why = str(err).partition(";")[0]
        raise UserError(f"{path} line {first_line}: cannot be read ({why}); nothing was imported") from err
    except RecursionError as err:
        raise UserError(f"{path} line {first_line}: the JSON is nested too deeply; nothing was imported") from err


def _hint(data: Any) -> str:
    """Return a hint if the object is from a file that is often taken for another."""
    lists = isinstance(data, dict) and data and all(isinstance(value, list) for value in data.values())
    return SPLITS_HINT if lists else ""
