"""Find the file of a dataset by its name in dataset_info.json, or by its path; the files of dpo/ follow SDPO_HOME.

Those entries name `../../dpo/data/…`, the scripts' default folder. Where SDPO_HOME names another, the scripts write
there, and what lies in dpo/data is of an older run.
"""

import difflib
import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import OptionError, UserError, one_line
from .places import IS_INSTALLED, ROOT, SHIPPED, home


STEP_FILES = "../../dpo/data/"
"""How the file_name of a file begins that dpo/ writes."""
TOOLS = "tools"
"""The field of their records for descriptions of tools; those of agents without tools have none."""
INFO = "dataset_info.json"

FILE_ENDINGS = (".json", ".jsonl", ".parquet", ".arrow", ".csv", ".gz")
"""By these a dataset's name is a path, whether or not the file is there."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


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
    except (ValueError, RecursionError) as err:
        raise UserError(f"{path} is not JSON: {one_line(err)}") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path} is not an object of datasets by their names")
    return entries


def is_path(name: str) -> bool:
    """Return whether a dataset's name is written as a path."""
    return name.startswith((".", "~", "/")) or name.lower().endswith(FILE_ENDINGS) or name.count("/") > 1


def path_of(name: str, dataset_dir: Any) -> Path | None:
    """Return the file or folder that a dataset's name is itself, from the working folder; None for all other names."""
    if name in (read_entries(dataset_dir) or {}):
        return None
    path = Path(name).expanduser().absolute()
    # Not Path.exists, which lets pass what a system says of a name that is too long.
    return path if is_path(name) or os.path.exists(path) else None


def is_of_the_hub(name: str, dataset_dir: Any) -> bool:
    """Return whether a dataset's name, no entry and no path, can be one of the hub."""
    return name not in (read_entries(dataset_dir) or {}) and bool(_HUB_NAME.fullmatch(name))


def check_names(option: str, names: list[str] | None, dataset_dir: Any, stages: tuple[str, ...] = ()) -> None:
    """Refuse names that are neither in dataset_info.json nor a path nor can be of the hub.

    Args:
        option: that gave them.
        names: of datasets.
        dataset_dir: the host's option.
        stages: those that read a path or a name of the hub, if the training is of none of them.

    Raises:
        OptionError: with the names that there are.
    """
    entries = read_entries(dataset_dir)
    for name in names or []:
        path = path_of(name, dataset_dir)
        if (path or (entries is not None and is_of_the_hub(name, dataset_dir))) and stages:
            raise OptionError(
                option, f"{name} is not in {INFO}, as it must be for this stage; {', '.join(stages)} read it as it is"
            )
        if path and not os.path.exists(path):
            raise OptionError(option, f"{path} does not exist; correct the path, or add an entry {name} to {INFO}")
        if entries is not None and name not in entries and not path and not is_of_the_hub(name, dataset_dir):
            close = difflib.get_close_matches(name, entries, n=1)
            meant = f"did you mean {close[0]}? It" if close else "it"
            where = Path(dataset_dir) / INFO
            raise OptionError(option, f"Undefined dataset {name} in {where}; {meant} has {', '.join(entries)}")


def moved(file_name: str, dataset_dir: Any) -> str:
    """Return a file_name as it is to be read: one that dpo/ writes, from SDPO_HOME if that is set.

    Of an installed package, whose folder is not for files of the user's, the published files are those in the data
    folder's data/.
    """
    folder = home()
    if folder and file_name.startswith(STEP_FILES):
        return str(folder / file_name.removeprefix(STEP_FILES))
    is_shipped = IS_INSTALLED and Path(dataset_dir) == SHIPPED / "data"
    return str(ROOT / "data" / file_name) if is_shipped and not (SHIPPED / "data" / file_name).exists() else file_name


def has_tools(path: Path) -> bool:
    """Return whether records of a file that dpo/ writes have descriptions of tools."""
    if not path.is_file():
        return False
    # Inside a text the quotation marks would be escaped.
    key = json.dumps(TOOLS).encode() + b":"
    with path.open("rb") as file:
        return any(key in line for line in file)


def file_of(name: str, dataset_dir: Any) -> Path | None:
    """Return the file (or folder) of a dataset; None if it has none that is known here."""
    entry = (read_entries(dataset_dir) or {}).get(name)
    named = entry.get("file_name") if isinstance(entry, dict) else None
    return Path(os.path.normpath(Path(dataset_dir) / moved(named, dataset_dir))) if isinstance(named, str) else None


def files_named_otherwise(names: list[str], dataset_dir: Any) -> dict[str, Path]:
    """Return the files of the datasets whose names do not tell them: called otherwise, or moved to SDPO_HOME."""
    found = {name: path for name in names if (path := file_of(name, dataset_dir))}
    return {name: path for name, path in found.items() if path.stem != name or path.parent == home()}
