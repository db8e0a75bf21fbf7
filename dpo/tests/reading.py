"""What tests of commands read: an exit code, a file between the steps, the episodes of a task."""

import json
from pathlib import Path
from typing import Any

from running import Result

from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.episode import Episode


def stored(db: str, task: str) -> list[Episode]:
    """Read the episodes of a task."""
    with open_store(db) as store:
        return [episode for episode in store.episodes() if episode.settings["task"] == task]


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text("utf-8"))


def good(found: Result) -> Result:
    """Check that a command went well."""
    assert found.code == 0, found.err
    return found
