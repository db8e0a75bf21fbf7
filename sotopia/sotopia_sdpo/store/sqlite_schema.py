"""The tables of a SQLite store, and how an entry becomes rows and a row a head.

Comes in and goes out: entries, heads and rows. Invariant: the columns of the table `episodes` are HEAD_COLUMNS, in
this order, and every query on keys is served by an index.
"""

import json
import sqlite3
from typing import Any

from sotopia_sdpo.store.base import Entry
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.stored import damage_told, head_from


SCHEMA_VERSION = 1
HEAD_COLUMNS = (
    "pk TEXT PRIMARY KEY",
    "tag TEXT NOT NULL",
    "combo TEXT NOT NULL",
    "position INTEGER NOT NULL",
    "trial INTEGER NOT NULL",
    "status TEXT NOT NULL",
    "environment TEXT NOT NULL",
    "agents TEXT NOT NULL",
    "models TEXT NOT NULL",
    "agent_position INTEGER",
    "source_episode TEXT",
    "failure TEXT NOT NULL",
)
TEXT_COLUMNS = "pk TEXT PRIMARY KEY, text TEXT NOT NULL"
PROFILE_COLUMNS = "kind TEXT NOT NULL, pk TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, pk)"
KEY_COLUMNS = "tag TEXT, combo TEXT, position INTEGER, trial INTEGER"

SCHEMA = (
    f"CREATE TABLE episodes ({', '.join(HEAD_COLUMNS)})",
    "CREATE INDEX episodes_by_key ON episodes (tag, combo, position, trial, status)",
    f"CREATE TABLE texts ({TEXT_COLUMNS})",
    f"CREATE TABLE profiles ({PROFILE_COLUMNS})",
    f"CREATE TABLE claims ({KEY_COLUMNS}, owner TEXT NOT NULL, until REAL NOT NULL,"
    " PRIMARY KEY (tag, combo, position, trial))",
)
STAGING = f"""
    CREATE TEMP TABLE new_episodes ({", ".join(HEAD_COLUMNS)});
    CREATE TEMP TABLE new_texts ({TEXT_COLUMNS});
    CREATE TEMP TABLE new_profiles ({PROFILE_COLUMNS});
"""
COPY_STAGED = tuple(
    f"INSERT OR REPLACE INTO {table} SELECT * FROM new_{table}" for table in ("episodes", "texts", "profiles")
)
BEST_FIRST = "CASE status WHEN 'scored' THEN 0 WHEN 'unscored' THEN 1 ELSE 2 END"
"""The rank of an episode among those of one key."""


def row_of_head(head: EpisodeHead) -> tuple[object, ...]:
    """Return a head as a row."""
    return (
        head.pk,
        *head.key,
        head.status,
        head.environment,
        json.dumps(head.agents),
        json.dumps(head.models),
        head.agent_position,
        head.source_episode,
        head.failure,
    )


def head_of_row(row: tuple[Any, ...], url: str) -> EpisodeHead:
    """Return a head from a row of the database at a URL."""
    pk, tag, combo, position, trial, status, environment, agents, models, *rest = row
    with damage_told(f"{url}: episode {pk} of tag {tag}", "delete its tag with `sotopia db delete --tag`"):
        lists = json.loads(agents), json.loads(models)
        return head_from(pk, (tag, combo, position, trial), status, environment, *lists, *rest)


def stage(connection: sqlite3.Connection, entries: list[Entry]) -> None:
    """Write some entries aside."""
    heads, texts, profiles = [], [], []
    for kind, content in entries:
        if isinstance(content, Episode):
            heads.append(row_of_head(content.head))
            texts.append((content.pk, content.model_dump_json()))
        else:
            profiles.append((kind, content["pk"], json.dumps(content)))
    connection.execute("BEGIN")
    columns = ", ".join("?" * len(HEAD_COLUMNS))
    connection.executemany(f"INSERT OR REPLACE INTO new_episodes VALUES ({columns})", heads)
    connection.executemany("INSERT OR REPLACE INTO new_texts VALUES (?, ?)", texts)
    connection.executemany("INSERT OR REPLACE INTO new_profiles VALUES (?, ?, ?)", profiles)
    connection.execute("COMMIT")
