"""Read negatives: ours, which name their episode, or those of the authors' scripts, which do not.

Comes in: a step file, and a way to the store. Goes out: checked sides. A record without `episode` gets that of the
stored session which it fits, with its scores and models; the dialogue stays the file's.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs.records import (
    LoggedSide,
    PlayedSide,
    check_unique,
    holds_logs,
    read_record,
    read_records,
    without_extras,
)
from sotopia_sdpo.pairs.sides import record_of
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.play.sources import SAY_OTHER_WORDS, Sources, place_of
from sotopia_sdpo.step_files import read_list, wrong_record
from sotopia_sdpo.store.base import Store


P = TypeVar("P", bound=PlayedSide)
OF_THE_AUTHORS = ("idx", "env_id", "agent_ids")
"""Their names of fields that we have under other ones."""


def read_negatives(
    path: Path, model: type[P], writer: str, opened: Callable[[], AbstractContextManager[Store]]
) -> list[P]:
    """Read a step file of negatives.

    Args:
        path: the file.
        model: what its records are.
        writer: the script that writes it.
        opened: opens the store, where a record has to be looked for in it.

    Raises:
        UserError: the first record that is wrong, is a side again, or fits no stored session or several; or if they
            come out of logs.
    """
    rows = read_list(path, writer)
    refuse_logs(path, rows)
    if any(isinstance(row, dict) and not row.get("episode") for row in rows):
        with opened() as store:
            rows = _completed(path, rows, Sources(store), writer)
    sides = [read_record(path, number, row, model, writer) for number, row in enumerate(rows)]
    check_unique(path, [side.name for side in sides], writer)
    if others := sum(side.differs for side in sides):
        print(f"{path.name}: note: {others} records {SAY_OTHER_WORDS}", file=sys.stderr)
    return sides


def refuse_logs(path: Path, rows: Sequence[Any]) -> None:
    """Check that the records of a file are SOTOPIA's.

    Raises:
        UserError: if they come out of logs, whose dialogues nobody can go on with.
    """
    if holds_logs(rows):
        raise UserError(f"{path}: dialogues out of logs cannot be played on; from_logs.py --pairs makes their pairs")


def read_dialogues(
    path: Path, writer: str, opened: Callable[[], AbstractContextManager[Store]]
) -> Sequence[PlayedSide | LoggedSide]:
    """Read a step file of any agent: sides of SOTOPIA, as `read_negatives` does, or dialogues out of logs.

    Raises:
        UserError: the first record that is wrong, or comes twice.
    """
    if not holds_logs(read_list(path, writer)):
        return read_negatives(path, PlayedSide, writer, opened)
    found = read_records(path, LoggedSide, writer)
    check_unique(path, [one.name for one in found], writer)
    return found


def _completed(path: Path, rows: Sequence[Any], sources: Sources, writer: str) -> list[Any]:
    """Complete the records that name no episode."""
    found = []
    for number, row in enumerate(rows):
        is_named = not isinstance(row, dict) or row.get("episode")
        try:
            found.append(row if is_named else completed(row, sources))
        except ValueError as err:
            raise wrong_record(path, number, err, writer) from err
    return found


def completed(row: dict[str, Any], sources: Sources) -> dict[str, Any]:
    """Add to a record what the stored session that it fits says of it.

    Raises:
        ValueError: if it fits none, or more than one.
    """
    place, conversations = place_of(row), without_extras(row.get("conversations"))
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise ValueError("conversations is missing")
    episode = sources.find(place, conversations)
    known = record_of(episode, place.agent_position, load_template()).dump()
    own = {name: value for name, value in row.items() if name not in OF_THE_AUTHORS}
    location = {"reason": row.get("reason") or ""} if "location" in row else {}
    differs = not place.has(episode, conversations)
    return {**own, **known, **location, "conversations": conversations, "differs": differs}
