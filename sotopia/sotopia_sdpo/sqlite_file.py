"""Open a SQLite file that several processes write to.

Comes in: a path. Goes out: a connection in autocommit mode that waits for others. Invariant: a file that another
process is opening at the same moment is waited for, never reported as locked.
"""

import random
import sqlite3
import time
from pathlib import Path


BUSY_TIMEOUT_S = 60
LONGEST_PAUSE_S = 0.02


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
