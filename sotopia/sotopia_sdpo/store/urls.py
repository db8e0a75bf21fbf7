"""Which database and which data folder are meant: the options, the variables and their defaults."""

import os
from pathlib import Path


HOME_VARIABLE = "SDPO_HOME"
URL_VARIABLE = "SOTOPIA_DB"
DATABASE_FILE = "sotopia.db"
CHECKOUT = Path(__file__).resolve().parents[3]
SQLITE_PREFIX = "sqlite:///"


def data_home(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of databases and step files: --data-dir, else SDPO_HOME, else dpo/data."""
    chosen = option or os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else CHECKOUT / "dpo" / "data"


def database_url(option: str | None = None, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Return the URL of the database: --db, else SOTOPIA_DB, else sotopia.db in the data folder."""
    return option or os.environ.get(URL_VARIABLE) or f"{SQLITE_PREFIX}{data_home(data_dir) / DATABASE_FILE}"


def without_password(url: str) -> str:
    """Return a URL that may be shown: without what stands between the scheme and the @."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
