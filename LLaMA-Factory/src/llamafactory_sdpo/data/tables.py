"""Read the rows of a Parquet, Arrow or CSV file as records, with the loaders of `datasets` that the host uses.

Rows are streamed: nothing is kept on disk, so an older file of the same name and time is never taken for this one.
"""

import ast
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset
from datasets.exceptions import DatasetsError

from ..errors import UserError, one_line
from .formats import Format


BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".csv.gz": "csv"}
"""The ending of a file -> the loader."""


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, row) for every row of a table.

    Args:
        path: a file with one of the endings in `BUILDERS`.

    Raises:
        UserError: if the file cannot be read to its end.
    """
    number = -1
    try:
        rows = load_dataset(BUILDERS[ending(path)], data_files=str(path), split="train", streaming=True)
        for number, row in enumerate(rows):
            yield number, row
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, DatasetsError) as err:
        where = "cannot be read" if number < 0 else f"cannot be read after record {number}"
        raise UserError(f"{path} {where} ({one_line(err)[:200]}); write the file again") from None


def as_record(row: dict[str, Any], form: Format) -> dict[str, Any]:
    """Return a row as the record that a JSON file would hold: a CSV file has lists as text, columns have gaps."""
    return {column: _cell(column, value, form) for column, value in row.items()}


def _cell(column: str, value: Any, form: Format) -> Any:
    if column not in form.dialogues:
        return value
    if isinstance(inner := _parsed(value), dict) and any(name.startswith(f"{column}.") for name in form.dialogues):
        return {key: _cell(f"{column}.{key}", item, form) for key, item in inner.items()}
    if not isinstance(value, str):
        return _without_gaps(turns(value))
    found = turns(value)
    may_be_text = column in (form.messages, form.chosen, form.rejected)
    # A text may be an answer that happens to be JSON.
    return found if not may_be_text or _are_turns(found, form) else value


def _are_turns(value: Any, form: Format) -> bool:
    """Return whether a value is a turn, or a list of turns, which may be empty."""
    found = value if isinstance(value, list) else [value]
    return all(isinstance(turn, dict) and form.role_tag in turn for turn in found)


def _without_gaps(value: Any) -> Any:
    """Return a value without the keys that a table adds where only other rows have them."""
    if isinstance(value, list):
        return [_without_gaps(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_gaps(item) for key, item in value.items() if item is not None}
    return value


def ending(path: Path) -> str:
    """Return the ending of a file's name, with the one before `.gz` if it is that."""
    return "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower()


def turns(value: Any) -> Any:
    """Return the list of turns that a table holds as a text, or as one list for each key; any other value as it is."""
    value = _parsed(value)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        return [dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)]
    return value


def _parsed(value: Any) -> Any:
    """Return the list or object that a text holds; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return value
