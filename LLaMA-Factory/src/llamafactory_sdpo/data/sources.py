"""Find what a dataset is made of: files, read one by one, or the rows of a `datasets` folder or of the hub."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from ..errors import UserError, one_line
from ..places import step
from . import records, tables


PRODUCERS = {
    "preference_data_auto.json": f"{step('auto_tail', 'auto-tail')} writes it",
    "preference_data_mixed.json": f"{step('mix', 'mix')} writes it",
    "preference_data.json": f"{step('data_filtering_positive', 'positives')} writes it",
    "positive_data.json": f"{step('data_filtering_positive', 'positives')} writes it",
    "eto_data.json": f"{step('data_filtering_positive', 'positives')} --pairs eto writes it",
    "sft_data.json": f"{step('sft_data', 'sft-data')} writes it",
}
"""The step that writes a file, for the message when it is missing."""

JSON_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
ENDINGS = (*JSON_ENDINGS[2:], *tables.BUILDERS)

SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""The files by which a folder is one of `save_to_disk`, of one dataset or of several splits."""


class Source(NamedTuple):
    """What a dataset is made of.

    Attributes:
        files: to read, or to know the rows by.
        rows: None if the files are read.
    """

    files: list[str]
    rows: Dataset | None = None


class Part(NamedTuple):
    """The numbered records of one file, or of all rows.

    Attributes:
        name: for messages.
        is_table: whether they are rows of a table.
    """

    name: str
    records: Iterator[tuple[int, Any]]
    is_table: bool


def source_of(attr: Any, dataset_dir: Any, cache_dir: Any) -> Source:
    """Find what a dataset is made of.

    Args:
        attr: the host's DatasetAttr.
        dataset_dir: the folder of dataset_info.json.
        cache_dir: where `datasets` keeps its files, None for its default.

    Raises:
        UserError: if it is not there or of no kind that is read.
    """
    if attr.load_from == "hf_hub":
        return Source([], _hub_rows(attr, attr.dataset_name, dataset_dir, cache_dir))
    if attr.load_from != "file":
        raise UserError(
            f"{attr.dataset_name}: pairs cannot be read from '{attr.load_from}'; "
            "download the data and name it as file_name in dataset_info.json"
        )
    path = Path(attr.dataset_name) if Path(attr.dataset_name).is_absolute() else Path(dataset_dir) / attr.dataset_name
    # Not Path.exists, which lets pass what a system says of a name that is too long.
    if not os.path.exists(path):
        hint = PRODUCERS.get(path.name, "put it there, or correct file_name in dataset_info.json")
        raise UserError(f"{path} does not exist; {hint}")
    if (path / SAVED).is_file() or (path / SAVED_SPLITS).is_file():
        return Source(_inside(path), _saved_rows(path, attr.split))
    if path.is_dir() and any(child.is_dir() or child.suffix == ".md" for child in _seen(path)):
        return Source(_inside(path), _hub_rows(attr, str(path), None, cache_dir))
    if attr.split != "train":
        raise UserError(f"{attr.dataset_name}: split is {attr.split!r}, but a file is read whole; leave it out")
    return Source(_files(path))


def parts_of(files: list[str], rows: Dataset | None, name: str) -> Iterator[Part]:
    """Yield the parts of a source in order, none of which shares a pair with another."""
    if rows is not None:
        yield Part(name, iter(enumerate(rows)), True)
        return
    for file in map(Path, files):
        if tables.ending(file) in tables.BUILDERS:
            yield Part(str(file), tables.read_rows(file), True)
        else:
            yield Part(str(file), records.read_records(file), False)


def first_records(source: Source, count: int) -> tuple[list[Any], bool]:
    """Return the first records of a source, and whether they are rows of a table."""
    part = next(parts_of(source.files, source.rows, ""))
    return [record for _, record in islice(part.records, count)], part.is_table


def _seen(path: Path) -> list[Path]:
    """Return the files and folders of a folder that are not hidden, in the order of their names."""
    return sorted(child for child in path.iterdir() if not child.name.startswith("."))


def _inside(path: Path) -> list[str]:
    """Return all files below a folder, by whose bytes its rows are known."""
    return sorted(str(file) for file in path.rglob("*") if file.is_file())


def _files(path: Path) -> list[str]:
    """Return the files of a dataset: one, or all of a folder in the order of their names."""
    files = _seen(path) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} is an empty folder; expected .json or .jsonl files")
    for file in files:
        if tables.ending(file) not in (*JSON_ENDINGS, *tables.BUILDERS):
            raise UserError(f"{file} is neither .json nor .jsonl, nor {', '.join(ENDINGS)}; pairs are read from these")
    return [str(file) for file in files]


def _saved_rows(path: Path, split: str) -> Dataset:
    """Load the rows of a folder that `save_to_disk` wrote; its only split, or the one that is asked for."""
    try:
        found = load_from_disk(str(path))
    except (OSError, ValueError) as err:
        raise UserError(f"{path} cannot be loaded ({one_line(err)[:200]}); write the folder again") from None
    if not isinstance(found, DatasetDict):
        return found
    if split not in found and len(found) != 1:
        raise UserError(f"{path} has no split {split}, but {', '.join(found)}; name one as split in dataset_info.json")
    return found[split if split in found else next(iter(found))]


def _hub_rows(attr: Any, path: str, dataset_dir: Any, cache_dir: Any) -> Dataset:
    """Load the rows of a dataset of the Hugging Face hub (or of a folder of that form)."""
    try:
        return load_dataset(path=path, name=attr.subset, data_dir=attr.folder, split=attr.split, cache_dir=cache_dir)
    except (OSError, ValueError) as err:
        reason = str(err).splitlines()[0]
        is_here = isinstance(dataset_dir, str) and (Path(dataset_dir) / path).exists()
        remedy = "; what lies beside dataset_info.json is named by file_name" if is_here else ""
        raise UserError(f"dataset {path} cannot be loaded: {reason}{remedy}") from None
