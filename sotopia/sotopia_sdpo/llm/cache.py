"""Answers of models in one SQLite file; every answer is on disk before it is used.

Comes in: a path. Goes out: kept answers (`kept.py` has the contract). Invariant: a file of another program, or of
another version of ours, is refused before anything in it is changed.
"""

import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.kept import CLAIM_TTL_S, KeptAnswers, Request
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.sqlite_file import Claim, claimed, connect, remedy_for, transaction, use_wal


ANSWERS_FILE = "answers.db"
SCHEMA_VERSION = 1
OUR_TABLES = {"answers", "rounds", "claims"}
UNKNOWN = -1
"""Stands for a number of tokens that is not known: the columns cannot be empty."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost REAL, is_simulated INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS rounds (key TEXT PRIMARY KEY, rounds INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL);
"""


class AnswerCache(KeptAnswers):
    """The file of answers."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            UserError: if it cannot be opened, or is something else.
        """
        self.path = path
        self.owner = uuid.uuid4().hex
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = connect(path)
            try:
                self._check_ours()
                use_wal(self._connection)
                self._connection.executescript(f"{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};")
            except BaseException:
                self._connection.close()
                raise

    def _check_ours(self) -> None:
        """Refuse the file of another version or of another program, before anything in it is changed."""
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables - OUR_TABLES:
            raise UserError(f"{self.path}: a database of something else, not of answers; move it away")
        if version not in (0, SCHEMA_VERSION):
            raise UserError(
                f"{self.path}: written by another version of this project (schema {version}); move it away"
            )

    def get(self, request: Request) -> Answer | None:
        """Look an answer up."""
        row = self._row(
            "SELECT answer, prompt_tokens, completion_tokens, cost, is_simulated FROM answers WHERE key = ?", request
        )
        if row is None:
            return None
        prompt, completion = (None if count == UNKNOWN else count for count in row[1:3])
        return Answer(row[0], Usage(1, prompt, completion, row[3]), bool(row[4]))

    def put(self, request: Request, answer: Answer) -> Answer:
        """Keep an answer, unless there is one already, and return the one that is kept.

        Raises:
            UserError: if the disk, or another process, does not let it.
        """
        usage = answer.usage
        tokens = (UNKNOWN if count is None else count for count in (usage.prompt_tokens, usage.completion_tokens))
        row = (request.key, request.text, answer.text, *tokens, usage.cost, answer.is_simulated, time.time())
        with self._change() as connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return self.get(request) or answer

    def claim(self, request: Request) -> bool:
        """Take the right to make a call; return whether no other process has it."""
        with self._change() as connection:
            row = connection.execute("SELECT owner, until FROM claims WHERE key = ?", (request.key,)).fetchone()
            held = Claim(*row) if row else None
            claim = claimed(held, self.owner, CLAIM_TTL_S)
            if claim != held:
                connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (request.key, *claim))
        return claim.owner == self.owner

    def renew(self) -> None:
        """Prolong all claims of this process."""
        with self._change() as connection:
            until = time.monotonic() + CLAIM_TTL_S
            connection.execute("UPDATE claims SET until = ? WHERE owner = ?", (until, self.owner))

    def release(self, request: Request) -> None:
        """Give a claim back."""
        with self._change() as connection:
            connection.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (request.key, self.owner))

    def round(self, request: Request) -> int:
        """Return how many finished runs have given a question up; each later one asks in a round of its own."""
        row = self._row("SELECT rounds FROM rounds WHERE key = ?", request)
        return int(row[0]) if row else 0

    def give_up(self, requests: Iterable[Request]) -> None:
        """End a run in which these questions, each by its first request, got no usable answer."""
        with self._change() as connection:
            connection.executemany(
                "INSERT INTO rounds VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET rounds = rounds + 1",
                sorted({(request.key,) for request in requests}),
            )

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Run what is done inside as one transaction.

        Raises:
            UserError: if the disk, or another process, does not let it.
        """
        with (
            self._explained("an answer cannot be kept", "make room and run this again"),
            transaction(self._connection),
        ):
            yield self._connection

    def _row(self, statement: str, request: Request) -> Any:
        """Return the row of a request, None if there is none."""
        with self._explained():
            return self._connection.execute(statement, (request.key,)).fetchone()

    @contextmanager
    def _explained(
        self, what: str = "cannot be used for the answers", remedy: str = "move it away, or give --data-dir"
    ) -> Iterator[None]:
        """Raise an error of the file as a UserError of one line."""
        try:
            yield
        except (OSError, sqlite3.Error) as err:
            raise UserError(f"{self.path}: {what} ({err}); {remedy_for(err, self.path) or remedy}") from err

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
