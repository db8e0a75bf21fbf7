"""Episodes, profiles and claims in one SQLite file, for any number of processes on one machine.

Heads and texts have a table each, so that planning reads none of the text. The log is written ahead (WAL) and
handed to the system with every change, so nothing is lost when a process is killed; when the machine loses power, the
last seconds may be, and the file is whole all the same. Invariant: every change is one transaction; a large import is
collected in a temporary table first, so it holds the lock only for the copy.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.sqlite_file import (
    UNWRITABLE,
    Claim,
    claimed,
    connect,
    connect_to_read,
    primary_code,
    remedy_for,
    transaction,
    use_wal,
)
from sotopia_sdpo.store.base import Entry, Profile, ProfileKind, Store, StoreCounts
from sotopia_sdpo.store.episode import Episode, EpisodeHead, Status
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.paging import pages
from sotopia_sdpo.store.sqlite_schema import (
    BEST_FIRST,
    COPY_STAGED,
    HEAD_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    STAGING,
    head_of_row,
    row_of_head,
    stage,
)
from sotopia_sdpo.store.stored import stored_episode, stored_profile


PAGE_EPISODES = 50
"""How many episodes an iteration reads at once."""
PAGE_ENTRIES = 500
"""How many entries an import collects before it writes them aside."""
NOT_TEXT = 0
"""What `primary_code` gives for a text that is no text; SQLite has no number for it."""
REMEDIES = {
    **dict.fromkeys(UNWRITABLE, "check that it and its folder can be written, or name another file"),
    **dict.fromkeys(
        (sqlite3.SQLITE_CORRUPT, NOT_TEXT), "it is damaged: `sqlite3 FILE .recover | sqlite3 NEW` saves what is left"
    ),
}


class SqliteStore(Store):
    """A store in a file."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path.absolute()
        self.url = f"sqlite:///{self.path}"
        self._lock = threading.RLock()
        self._is_read_only = False
        if not create and not self.path.exists():
            raise UserError(
                f"{self.path}: there is no database here; `sotopia benchmark` or `sotopia db import FILE...` makes one"
            )
        with self._explained():
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.OperationalError as err:
                if create or primary_code(err) not in UNWRITABLE:
                    raise
                self._connection = self._connect_to_read()
                self._is_read_only = True
            self._file = self._file_here()

    def check_keeps(self) -> None:
        """Refuse to write a file that cannot be written, or that nobody can open any more, since it lies elsewhere."""
        with self._explained():
            if self._file_here() != self._file:
                raise UserError(
                    f"{self.path}: deleted, moved or replaced while it was in use, so nothing more is stored; put it"
                    " back, or run this again with the file that is here now"
                )
        if self._is_read_only:
            raise UserError(
                f"{self.path}: it, or its folder, cannot be written; copy it to another place, and name that"
            )

    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        """Write one episode, replacing the one of its pk; with an owner, only while it holds the claim."""
        head = episode.head
        with self._change() as connection:
            if owner is not None:
                if not self._delete_claims(connection, [head.key], owner):
                    return False
                self._delete_earlier_tries(connection, head)
            columns = ", ".join("?" * len(HEAD_COLUMNS))
            connection.execute(f"INSERT OR REPLACE INTO episodes VALUES ({columns})", row_of_head(head))
            connection.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", (head.pk, episode.model_dump_json()))
        return True

    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Collect the entries in a temporary table, then copy them over in one transaction."""
        with self._explained(), closing(self._connect()) as connection:
            connection.executescript(STAGING)
            for page in pages(entries, PAGE_ENTRIES):
                stage(connection, page)
            with transaction(connection):
                for statement in COPY_STAGED:
                    connection.execute(statement)

    def get_episode(self, pk: str) -> Episode | None:
        """Read one episode."""
        rows = self._query("SELECT text FROM texts WHERE pk = ?", (pk,))
        return stored_episode(rows[0][0], self.url, pk) if rows else None

    def episodes(self, tag: str | None = None, status: Status | None = None) -> Iterator[Episode]:
        """Read episodes page by page, each page a query of its own."""
        last = ""
        while True:
            rows = self._query(
                "SELECT episodes.pk, text FROM episodes LEFT JOIN texts ON texts.pk = episodes.pk"
                " WHERE episodes.pk > ?1 AND (?2 IS NULL OR tag = ?2) AND (?3 IS NULL OR status = ?3)"
                " ORDER BY episodes.pk LIMIT ?4",
                (last, tag, status, PAGE_EPISODES),
            )
            if not rows:
                return
            last = rows[-1][0]
            for pk, text in rows:
                yield stored_episode(text, self.url, pk)

    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        """Read heads in one query."""
        where = "" if tags is None else "WHERE tag IN (SELECT value FROM json_each(?))"
        parameters = () if tags is None else (json.dumps(list(tags)),)
        rows = self._query(f"SELECT * FROM episodes {where} ORDER BY pk", parameters)
        return [head_of_row(row, self.url) for row in rows]

    def find_keys(self, keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        """Find in one query which keys have an episode."""
        rows = self._query(
            "SELECT episodes.* FROM json_each(?) AS wanted CROSS JOIN episodes"
            " ON tag = json_extract(wanted.value, '$[0]') AND combo = json_extract(wanted.value, '$[1]')"
            " AND position = json_extract(wanted.value, '$[2]') AND trial = json_extract(wanted.value, '$[3]')"
            f" ORDER BY {BEST_FIRST} DESC, episodes.pk DESC",
            (json.dumps(list(keys)),),
        )
        return {head.key: head for head in (head_of_row(row, self.url) for row in rows)}

    def delete_episodes(self, pks: Collection[str]) -> int:
        """Delete episodes by pk."""
        return self._delete("pk IN (SELECT value FROM json_each(?))", json.dumps(list(pks)))

    def delete_tag(self, tag: str) -> int:
        """Delete all episodes of a tag."""
        return self._delete("tag = ?", tag)

    def get_profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile."""
        rows = self._query("SELECT text FROM profiles WHERE kind = ? AND pk = ?", (kind, pk))
        return stored_profile(rows[0][0], self.url, kind, pk) if rows else None

    def profiles(self, kind: ProfileKind) -> Iterator[Profile]:
        """Read all profiles of a kind."""
        for pk, text in self._query("SELECT pk, text FROM profiles WHERE kind = ? ORDER BY pk", (kind,)):
            yield stored_profile(text, self.url, kind, pk)

    def counts(self) -> StoreCounts:
        """Count what is there."""
        profiles = self._query("SELECT kind, count(*) FROM profiles GROUP BY kind")
        by_tag: dict[str, dict[Status, int]] = {}
        for tag, status, number in self._query(
            "SELECT tag, status, count(*) FROM episodes GROUP BY tag, status ORDER BY tag, status"
        ):
            by_tag.setdefault(tag, {})[status] = number
        return StoreCounts(dict(profiles), by_tag)

    def claim(self, key: EpisodeKey, owner: str, ttl_s: float) -> bool:
        """Take a key, unless another holds it or a scored episode has it."""
        at = "(tag, combo, position, trial) = (?, ?, ?, ?)"
        with self._change() as connection:
            if connection.execute(f"SELECT 1 FROM episodes WHERE {at} AND status = 'scored'", key).fetchone():
                return False
            row = connection.execute(f"SELECT owner, until FROM claims WHERE {at}", key).fetchone()
            held = Claim(*row) if row else None
            claim = claimed(held, owner, ttl_s)
            if claim != held:
                connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)", (*key, *claim))
        return claim.owner == owner

    def renew(self, keys: Collection[EpisodeKey], owner: str, ttl_s: float) -> set[EpisodeKey]:
        """Prolong the claims that are still the owner's; one that ran out and that nobody took is its own again."""
        kept = set()
        with self._change() as connection:
            for key in keys:
                done = connection.execute(
                    "UPDATE claims SET until = ? WHERE (tag, combo, position, trial) = (?, ?, ?, ?) AND owner = ?",
                    (time.monotonic() + ttl_s, *key, owner),
                )
                if done.rowcount:
                    kept.add(key)
        return kept

    def release(self, keys: Collection[EpisodeKey], owner: str) -> None:
        """Release claims."""
        with self._change() as connection:
            self._delete_claims(connection, keys, owner)

    def claimers(self, tag: str) -> set[str]:
        """Return who holds claims on episodes of a tag."""
        rows = self._query("SELECT owner, until FROM claims WHERE tag = ?", (tag,))
        return {claim.owner for claim in (Claim(*row) for row in rows) if claim.is_alive}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _file_here(self) -> tuple[int, int] | None:
        """Return which file lies at the path; None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        """Open the file, refuse one that is not ours before anything is changed, and make the tables of a new one."""
        connection = connect(self.path)
        try:
            is_new = self._is_new(connection, "BEGIN")
            use_wal(connection)
            # Safe against kill -9 without waiting for the disk: what was written is with the system by then.
            connection.execute("PRAGMA synchronous = NORMAL")
            # Another process may be making the tables at the same moment; who comes second finds them there.
            if is_new and self._is_new(connection, "BEGIN IMMEDIATE"):
                self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to_read(self) -> sqlite3.Connection:
        """Open a file that cannot be written, or refuse one that is not ours."""
        connection = connect_to_read(self.path)
        try:
            if self._is_new(connection, "BEGIN"):
                raise UserError(f"{self.path}: the database is empty, and cannot be written")
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_new(self, connection: sqlite3.Connection, begin: str) -> bool:
        """Return whether the file has no tables yet; if so, a transaction that was begun to write stays open."""
        connection.execute(begin)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        is_empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
        if begin == "BEGIN" or not is_empty:
            connection.execute("COMMIT")
        if version == 0 and not is_empty:
            raise UserError(f"{self.path}: a database of another program is here; name another file")
        if version not in (0, SCHEMA_VERSION):
            raise UserError(
                f"{self.path}: the database has form {version}, expected {SCHEMA_VERSION}; open it with the version of"
                " this project that made it, `sotopia db export` there and `sotopia db import` here"
            )
        return is_empty

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file, in the transaction that is open."""
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    def _delete_claims(self, connection: sqlite3.Connection, keys: Collection[EpisodeKey], owner: str) -> int:
        """Delete the owner's claims on these keys."""
        return sum(
            connection.execute(
                "DELETE FROM claims WHERE (tag, combo, position, trial) = (?, ?, ?, ?) AND owner = ?", (*key, owner)
            ).rowcount
            for key in keys
        )

    def _delete_earlier_tries(self, connection: sqlite3.Connection, head: EpisodeHead) -> None:
        """Delete the episodes of the same key that have no score."""
        where = "(tag, combo, position, trial) = (?, ?, ?, ?) AND status != 'scored'"
        connection.execute(f"DELETE FROM texts WHERE pk IN (SELECT pk FROM episodes WHERE {where})", head.key)
        connection.execute(f"DELETE FROM episodes WHERE {where}", head.key)

    def _delete(self, where: str, parameter: str) -> int:
        """Delete episodes and their texts."""
        with self._change() as connection:
            connection.execute(f"DELETE FROM texts WHERE pk IN (SELECT pk FROM episodes WHERE {where})", (parameter,))
            return connection.execute(f"DELETE FROM episodes WHERE {where}", (parameter,)).rowcount

    def _query(self, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Read all rows of a statement."""
        with self._explained(), self._lock:
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Run what is done inside as one transaction."""
        self.check_keeps()
        with self._explained(), self._lock, transaction(self._connection):
            yield self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise an error of the file or its folder as a UserError of one line."""
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise
        except sqlite3.DatabaseError as err:
            remedy = remedy_for(err, self.path) or REMEDIES.get(
                primary_code(err), "check that it is a database of ours"
            )
            raise UserError(f"{self.path}: {str(err).partition(' with text ')[0]}; {remedy}") from err
        except OSError as err:
            raise UserError(f"{self.path}: {err.strerror or err}; name another file with --db sqlite:///PATH") from err
