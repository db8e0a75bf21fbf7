"""Open the database of a URL.

Comes in: a URL as the user typed it. Goes out: an open Store; a backend is imported when it is needed. Invariant: a
URL that names nothing we can open is one line that says what to write instead.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.urls import SQLITE_PREFIX, database_url, without_password


if TYPE_CHECKING:
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
