"""Read the rows of a Parquet, Arrow or CSV file as records, with the loaders of `datasets` that the host uses.

Rows are streamed: nothing is kept on disk, so an older file of the same name and time is never taken for this one.
"""

import ast
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset
from datasets.exceptions import DatasetsError

from ..errors import UserError, one_line


BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".csv.gz": "csv"}
"""The ending of a file -> the loader."""


def read_rows(path: Path, dialogues: Collection[str]) -> Iterator[tuple[int, object]]:
    """Yield (number, row) for every row of a table.

    Args:
        path: a file with one of the endings in `BUILDERS`.
        dialogues: the columns that hold turns, or a segment; a CSV file has these as text.

    Raises:
        UserError: if the file cannot be read to its end.
    """
    number = -1
    try:
        rows = load_dataset(BUILDERS[ending(path)], data_files=str(path), split="train", streaming=True)
        for number, row in enumerate(rows):
            yield number, {column: turns(value) if column in dialogues else value for column, value in row.items()}
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, DatasetsError) as err:
        where = "cannot be read" if number < 0 else f"cannot be read after record {number}"
        raise UserError(f"{path} {where} ({one_line(err)[:200]}); write the file again") from None


def ending(path: Path) -> str:
    """Return the ending of a file's name, with the one before `.gz` if it is that."""
    return "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower()


def turns(value: Any) -> Any:
    """Return the list of turns that a table holds as a text, or as one list for each key; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        return [dict(zip(value, items, strict=False)) for items in zip(*value.values(), strict=False)]
    return value
