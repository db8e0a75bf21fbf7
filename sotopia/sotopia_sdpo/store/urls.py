"""Which database and which data folder are meant: the options, the variables and their defaults."""

import os
import re
from pathlib import Path

from sotopia_sdpo.places import DATA


HOME_VARIABLE = "SDPO_HOME"
URL_VARIABLE = "SOTOPIA_DB"
DATABASE_FILE = "sotopia.db"
SQLITE_PREFIX = "sqlite:///"
HIDDEN = "…"
PLACE = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?(?:([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d+)?)?(/[\w.-]*)?(?:[?#][^@]*)?", re.I
)
"""A URL of which scheme, host, port and path may be shown. An @ behind the host belongs to a password that is not
quoted, so nothing before it is what it seems."""
MAY_HOLD_SECRETS = re.compile(r"[@?=]|^rediss?:")
WORD_WITH_ADDRESS = re.compile(r"(?:[a-z]+:/|rediss?:)(?:\S*@)?[^\s'\")]*", re.I)


def data_home(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of databases and step files: --data-dir, else SDPO_HOME, else DATA."""
    chosen = option or os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else DATA


def database_url(option: str | None = None, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Return the URL of the database: --db, else SOTOPIA_DB, else sotopia.db in the data folder."""
    return option or os.environ.get(URL_VARIABLE) or f"{SQLITE_PREFIX}{data_home(data_dir) / DATABASE_FILE}"


def is_url(source: str) -> bool:
    """Return whether a source is meant as a URL, not as a file; `redis:` alone is one that lacks its slashes."""
    return "://" in source or source.startswith(("redis:", "rediss:"))


def without_password(url: str) -> str:
    """Return a URL that may be shown: scheme, host, port and path; the rest, right or misspelt, may be a secret."""
    if url.startswith(SQLITE_PREFIX):
        return url
    found = PLACE.fullmatch(url)
    if found and (found[4] is None or found[4][1:].isdigit() or not url.lower().startswith("redis")):
        return "".join(part or "" for part in found.groups())
    scheme, slashes, _ = url.partition("://")
    if slashes and scheme.isalnum():
        return f"{scheme}://{HIDDEN}"
    return HIDDEN if MAY_HOLD_SECRETS.search(url) else url


def without_passwords(text: str) -> str:
    """Return a text whose URLs may be shown."""
    return WORD_WITH_ADDRESS.sub(lambda word: without_password(word[0]), text)
