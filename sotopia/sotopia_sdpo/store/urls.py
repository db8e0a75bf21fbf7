"""Which database is meant, and where the files of a user live: options, variables and their defaults."""

import os
from pathlib import Path


HOME_VARIABLE = "SDPO_HOME"
URL_VARIABLE = "SOTOPIA_DB"
DATABASE_FILE = "sotopia.db"
CHECKOUT = Path(__file__).resolve().parents[3]
SQLITE_PREFIX = "sqlite:///"


def data_home(option: str | os.PathLike[str] | None = None) -> Path:
    """Say where databases and the files between the steps live: --data-dir, else SDPO_HOME, else dpo/data."""
    chosen = option or os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else CHECKOUT / "dpo" / "data"


def database_url(option: str | None = None, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Say which database is meant: --db, else SOTOPIA_DB, else sotopia.db in the data folder."""
    return option or os.environ.get(URL_VARIABLE) or f"{SQLITE_PREFIX}{data_home(data_dir) / DATABASE_FILE}"


def without_password(url: str) -> str:
    """Give a URL that may be shown: what stands between the scheme and the @ is left out."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
