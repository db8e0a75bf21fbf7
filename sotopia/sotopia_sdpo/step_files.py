"""The files between the steps: their names and writers, and reading and writing them whole.

Comes in: a path. Goes out: a list of records, or one line that says which file is wrong and which script writes it.
Invariant: a file is written in one step, so a reader finds the old one or the new one, never a part.
"""

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.text import whole_text
from sotopia_sdpo.whole_files import whole_files


class StepFile(NamedTuple):
    """A file between two steps."""

    name: str
    writer: str
    """The script that writes it."""


DIALOGUES = StepFile("dialogues.json", "from_logs.py")
SFT_DATA = StepFile("sft_data.json", "sft_data.py")
NEGATIVES = StepFile("negative_data.json", "data_filtering_negative.py")
NEGATIVE_COMBOS = StepFile("negative_combos.json", "data_filtering_negative.py")
LOCATED = StepFile("negative_data_error.json", "locate.py")
PAIRS = StepFile("preference_data.json", "data_filtering_positive.py")
POSITIVES = StepFile("positive_data.json", "data_filtering_positive.py")
ETO_PAIRS = StepFile("eto_data.json", "data_filtering_positive.py --pairs eto")
SEGMENT_PAIRS = StepFile("preference_data_auto.json", "auto_tail.py")
MIXED_PAIRS = StepFile("preference_data_mixed.json", "mix.py")

MOST_SHOWN_ERROR = 200


def read_list(path: Path, writer: str) -> list[Any]:
    """Read a file that holds one JSON list.

    Raises:
        UserError: if it is not there, no JSON, no list, or empty.
    """
    try:
        rows = whole_text(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as err:
        raise UserError(f"{path} is not there; {writer} writes it") from err
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"{path}: cannot be read as JSON ({str(err)[:MOST_SHOWN_ERROR]}); rerun {writer}") from err
    if not isinstance(rows, list) or not rows:
        found = "none" if rows == [] else f"a {type(rows).__name__}"
        raise UserError(f"{path}: expected a list of records, found {found}; rerun {writer}")
    return rows


def wrong_record(path: Path, number: int, reason: object, writer: str) -> UserError:
    """Return the error of one record of a file; records count from 0."""
    return UserError(f"{path} record {number}: {reason}; fix it or rerun {writer}")


def write_json(files: Iterable[tuple[Path, Any]]) -> None:
    """Write JSON files, each in one step, after all of them have been written aside.

    Raises:
        UserError: if one cannot be written, or two are the same; the files keep what they held.
    """
    seen: set[Path] = set()
    path = Path()
    try:
        with whole_files() as draft:
            for path, content in files:
                if path.resolve() in seen:
                    raise UserError(f"{path}: both outputs name the same file; give another one (--output)")
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                seen.add(path.resolve())
                path.parent.mkdir(parents=True, exist_ok=True)
                with draft(path) as file:
                    json.dump(content, file, ensure_ascii=False, indent=1)
                    file.write("\n")
    except OSError as err:
        raise UserError(f"{path}: cannot be written ({err.strerror or err}); give another place (--output)") from err
