"""Open a SQLite file that several processes write to, and say what to do where it cannot be used.

Comes in: a path. Goes out: a connection in autocommit mode that waits for others; and who has a claim that was asked
for. Invariant: a file that another process is opening at the same moment is waited for, never reported as locked.
"""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote


BUSY_TIMEOUT_S = 60
LONGEST_PAUSE_S = 0.02
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""The second also where a limit on the size of files is reached."""
LOCKS = Path("/proc/locks")
"""Linux lists here who holds which file: … WRITE PID DEVICE:INODE FIRST LAST."""
LONGEST_CLAIM_S = 60.0
"""Of what lasts longer the machine has been started anew since."""
LAST_CALL = 0.25
"""The share of its time for which a claim that has run out is left to its owner once somebody asks for it."""


class Claim(NamedTuple):
    """Who may do something, and until when: by the clock that nobody sets, which all processes of a machine share.

    What has run out may have done so because the file could not be written for a while. So the first who asks for it
    only begins the last call, in which the owner can still renew it; its end is written as a negative number.
    """

    owner: str
    until: float

    @property
    def is_alive(self) -> bool:
        """Return whether its time, or that of the last call, is not over yet."""
        return 0 < abs(self.until) - time.monotonic() <= LONGEST_CLAIM_S


def claimed(held: Claim | None, owner: str, ttl_s: float) -> Claim:
    """Return what becomes of a claim that an owner asks for: it stays, is in its last call, or is the owner's."""
    now = time.monotonic()
    if held is not None and held.owner != owner:
        if held.is_alive:
            return held
        if held.until > 0:
            return Claim(held.owner, -(now + ttl_s * LAST_CALL))
    return Claim(owner, now + ttl_s)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file, or make an empty one, and change nothing in it."""
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def use_wal(connection: sqlite3.Connection) -> None:
    """Write the log ahead from now on, so that readers and a writer do not wait for each other.

    Raises:
        sqlite3.OperationalError: if others hold the file for BUSY_TIMEOUT_S, or it cannot be written.
    """
    end = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as err:
            # The switch asks for a lock while it holds one. SQLite refuses that at once, whatever its own timeout is,
            # since two processes that did so would wait for each other.
            if err.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0, LONGEST_PAUSE_S))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Begin as a writer, so that what is read inside is still true when it is written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        # With a log that is written ahead, a disk is found to be full only here.
        connection.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back by itself, and an error of ours would hide why.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that is there and that cannot be written, or whose folder cannot be.

    Raises:
        sqlite3.OperationalError: if its last changes stand in a log that cannot be read without writing.
    """
    # Without a log nobody is writing, and the file is all there is; with one, SQLite has to find its index.
    log = path.parent / f"{path.name}-wal"
    is_whole = not log.exists() or log.stat().st_size == 0
    address = f"file:{quote(str(path))}?{'immutable=1' if is_whole else 'mode=ro'}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def primary_code(err: BaseException) -> int:
    """Return the number of an error of SQLite without what it adds for some; 0 for any other error."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF


def remedy_for(err: BaseException, path: Path) -> str:
    """Return what to do about an error that does not come from what the file holds; '' for others."""
    code = primary_code(err)
    if code in BUSY:
        by = f" by process {pid}" if (pid := writer_of(path)) else ""
        return f"it is being written{by}; wait until that is done, and run this again: what is stored stays"
    if code in NO_ROOM:
        return "make room on its disk, or look at it, and run this again: what was stored before stays"
    return ""


def writer_of(path: Path) -> int | None:
    """Return the process that is writing a file, as far as the system tells."""
    try:
        files = {file.stat().st_ino for file in (path, path.parent / f"{path.name}-shm") if file.exists()}
        locks = [line.split() for line in LOCKS.read_text("ascii").splitlines()]
    except OSError:
        return None
    held = (lock[-5:] for lock in locks if len(lock) >= 5)
    found = [int(pid) for kind, pid, place, _, _ in held if kind == "WRITE" and int(place.split(":")[-1]) in files]
    return next((pid for pid in found if pid > 0), None)
