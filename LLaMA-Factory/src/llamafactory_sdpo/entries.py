"""Find the file of a dataset by its name in dataset_info.json; the files that dpo/ writes follow SDPO_HOME.

Those entries name `../../dpo/data/…`, the scripts' default folder. Where SDPO_HOME names another, the scripts write
there, and what lies in dpo/data is of an older run.
"""

import difflib
import json
import os
from pathlib import Path
from typing import Any

from .errors import OptionError, UserError


HOME_VARIABLE = "SDPO_HOME"
STEP_FILES = "../../dpo/data/"
"""How the file_name of a file begins that dpo/ writes."""
INFO = "dataset_info.json"


def read_entries(dataset_dir: Any) -> dict[str, Any] | None:
    """Read dataset_info.json of a local folder; None for what only the host can find.

    Raises:
        UserError: if it is there and not a JSON object.
    """
    path = Path(dataset_dir) / INFO if isinstance(dataset_dir, str) else None
    if path is None or not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise UserError(f"{path} is not JSON: {err}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path} is not an object of datasets by their names")
    return entries


def check_names(option: str, names: list[str] | None, dataset_dir: Any) -> None:
    """Refuse names that dataset_info.json does not have.

    Args:
        option: that gave them.
        names: of datasets.
        dataset_dir: the host's option.

    Raises:
        OptionError: with the names that there are.
    """
    entries = read_entries(dataset_dir)
    for name in names or []:
        if entries is not None and name not in entries:
            close = difflib.get_close_matches(name, entries, n=1)
            meant = f"did you mean {close[0]}? It" if close else "it"
            where = Path(dataset_dir) / INFO
            raise OptionError(option, f"Undefined dataset {name} in {where}; {meant} has {', '.join(entries)}")


def moved(file_name: str) -> str:
    """Return a file_name as it is to be read: one that dpo/ writes, from SDPO_HOME if that is set."""
    home = os.environ.get(HOME_VARIABLE)
    if not home or not file_name.startswith(STEP_FILES):
        return file_name
    return str(Path(home).expanduser().absolute() / file_name.removeprefix(STEP_FILES))


def file_of(name: str, dataset_dir: Any) -> Path | None:
    """Return the file (or folder) of a dataset; None if it has none that is known here."""
    entry = (read_entries(dataset_dir) or {}).get(name)
    named = entry.get("file_name") if isinstance(entry, dict) else None
    return Path(os.path.normpath(Path(dataset_dir) / moved(named))) if isinstance(named, str) else None


def files_named_otherwise(names: list[str], dataset_dir: Any) -> dict[str, Path]:
    """Return the files of the datasets whose names do not tell them: called otherwise, or moved to SDPO_HOME."""
    found = {name: path for name in names if (path := file_of(name, dataset_dir))}
    home = os.environ.get(HOME_VARIABLE)
    return {name: path for name, path in found.items() if path.stem != name or (home and path.parent == Path(home))}
