"""Open the database of a URL, and the answers of models that belong to it.

Comes in: a URL as the user typed it. Goes out: an open Store, or KeptAnswers; a backend is imported when it is needed.
Invariant: a URL that names nothing we can open is one line that says what to write instead.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.urls import SQLITE_PREFIX, database_url, without_password


if TYPE_CHECKING:
    from sotopia_sdpo.llm.kept import KeptAnswers
    from sotopia_sdpo.store.base import Store

REDIS_SCHEMES = ("redis://", "rediss://")
URL_FORMS = "expected sqlite:///PATH or redis://HOST:PORT/N"


def open_store(url: str | None = None, *, create: bool = True) -> "Store":
    """Open the database of a URL (None: the default one).

    Args:
        url: `sqlite:///PATH`, where PATH is relative to the current folder unless it starts with a slash or `~`, or
            `redis://[USER:PASSWORD@]HOST:PORT/N`.
        create: make a missing SQLite file and its folder; otherwise a missing one is an error.

    Raises:
        UserError: if the URL is of another kind, or the database cannot be reached or read.
    """
    url = database_url(url)
    if url.startswith(SQLITE_PREFIX) and url != SQLITE_PREFIX:
        from sotopia_sdpo.store.sqlite import SqliteStore

        return SqliteStore(Path(url.removeprefix(SQLITE_PREFIX)).expanduser(), create=create)
    if url.startswith(REDIS_SCHEMES):
        from sotopia_sdpo.store.redis.store import RedisStore

        return RedisStore(url)
    shown = without_password(url)
    hint = f"; a file is written {SQLITE_PREFIX}{url}" if "://" not in url and shown == url else ""
    raise UserError(f"database URL '{shown}': {URL_FORMS}{hint}")


def open_answers(folder: Path, url: str = "", *, create: bool = True) -> "KeptAnswers":
    """Open the answers of models: those of a Redis, which hosts share, else the file of a data folder.

    Args:
        folder: the data folder; its file from before is read too where the answers lie in a Redis.
        url: the URL of the database.
        create: make a missing file; otherwise there are no answers.

    Raises:
        UserError: if they cannot be used.
    """
    from sotopia_sdpo.llm.cache import ANSWERS_FILE, AnswerCache

    path = folder / ANSWERS_FILE
    if url.startswith(REDIS_SCHEMES):
        from sotopia_sdpo.store.redis.answers import RedisAnswers

        return RedisAnswers(url, AnswerCache(path) if path.exists() else None)
    return AnswerCache(path if create or path.exists() else Path(":memory:"))
