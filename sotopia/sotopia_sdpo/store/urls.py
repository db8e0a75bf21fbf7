"""Which database is meant, and opening it.

Comes in: a URL as the user typed it (`--db`, else SOTOPIA_DB, else the default file). Goes out: an open Store.
Invariant: a URL that names nothing we can open is one line that says what to write instead.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sotopia_sdpo.errors import UserError


if TYPE_CHECKING:
    from sotopia_sdpo.store.base import Store

HOME_VARIABLE = "SDPO_HOME"
URL_VARIABLE = "SOTOPIA_DB"
DATABASE_FILE = "sotopia.db"
CHECKOUT = Path(__file__).resolve().parents[3]
SQLITE_PREFIX = "sqlite:///"
REDIS_SCHEMES = ("redis://", "rediss://")
URL_FORMS = "expected sqlite:///PATH or redis://HOST:PORT/N"


def data_home(option: str | os.PathLike[str] | None = None) -> Path:
    """Say where databases and the files between the steps live: --data-dir, else SDPO_HOME, else dpo/data."""
    chosen = option or os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else CHECKOUT / "dpo" / "data"


def database_url(option: str | None = None, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Say which database is meant: --db, else SOTOPIA_DB, else sotopia.db in the data folder."""
    return option or os.environ.get(URL_VARIABLE) or f"{SQLITE_PREFIX}{data_home(data_dir) / DATABASE_FILE}"


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
    hint = f"; a file is written {SQLITE_PREFIX}{url}" if "://" not in url else ""
    raise UserError(f"database URL '{without_password(url)}': {URL_FORMS}{hint}")


def without_password(url: str) -> str:
    """Give a URL that may be shown: what stands between the scheme and the @ is left out."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
