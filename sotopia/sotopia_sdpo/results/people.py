"""Read what people gave to sessions: one CSV line for every rater of every session.

Comes in: CSV files with the columns `pk` (the episode), `rater`, and `DIMENSION_1`, `DIMENSION_2` for any of SOTOPIA's
dimensions; `model`, or `model_1` and `model_2`, and `data` with the transcript where they are there. Goes out: the
ratings of every side, in the order of the files.
Invariant: a rating lies in the range of its dimension. Every line counts as a rater of its own, since files that were
made anonymous may have lost who was who; how often an id comes back is counted.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import BY_NAME, DIMENSIONS


MOST_CELL = 2**24
"""Characters of one cell; a transcript may have many."""


class Side(NamedTuple):
    """One agent's part in a session."""

    session: str
    position: int


class Facts(NamedTuple):
    """What is known of a session besides its scores."""

    turns: int | None = None
    characters: int | None = None
    """Of all turns together."""
    models: tuple[str, str] = ("", "")
    """By position; "" where unknown."""


class People:
    """The ratings of some files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read them.

        Raises:
            UserError: if one is not there, or not in this form.
        """
        self.ratings: dict[Side, list[dict[str, float]]] = defaultdict(list)
        """By side: what each rater gave, by dimension."""
        self.facts: dict[str, Facts] = {}
        self.repeated = 0
        """Lines of a rater who has rated the session before."""
        seen: set[tuple[Path, str, str]] = set()
        for path in paths:
            for place, row in _rows(path):
                session, key = row["pk"], (path, row["pk"], row["rater"])
                self.repeated += key in seen
                seen.add(key)
                self.facts[session] = _facts(place, row)
                for position in (0, 1):
                    if values := _values(place, row, position):
                        self.ratings[Side(session, position)].append(values)
        if not self.ratings:
            raise UserError(f"{', '.join(map(str, paths))}: no ratings; every cell of a dimension is empty")

    def means(self, dimension: str) -> dict[Side, float]:
        """Return the mean of the raters of every side that has one."""
        return {side: sum(given) / len(given) for side, given in self.given(dimension).items()}

    def given(self, dimension: str) -> dict[Side, list[float]]:
        """Return what the raters of every side gave, where there is any."""
        found = {}
        for side, ratings in self.ratings.items():
            found[side] = [one[dimension] for one in ratings if dimension in one]
        return {side: given for side, given in found.items() if given}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the lines of a file by their columns, each with its place."""
    before = csv.field_size_limit(MOST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                place = f"{path} line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{place}: expected {len(reader.fieldnames or ())} cells, found another number")
                if not row["pk"].strip() or not row["rater"].strip():
                    raise UserError(f"{place}: pk or rater is empty; say which episode it is, and who rated it")
                yield place, row
    except OSError as err:
        raise UserError(f"{path}: {err.strerror or err}; expected a CSV file of ratings") from err
    except (UnicodeDecodeError, csv.Error) as err:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({err}); expected one of ratings") from err
    finally:
        csv.field_size_limit(before)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Check that the columns that are needed are there."""
    known = {_column(dimension.name, position) for dimension in DIMENSIONS for position in (0, 1)}
    if not {"pk", "rater"} <= set(columns) or not known & set(columns):
        found = ", ".join(f"{column:.30}" for column in columns[:8]) or "none"
        raise UserError(f"{path}: expected the columns pk, rater and e.g. goal_1, goal_2; found {found}")


def _values(place: str, row: dict[str, str], position: int) -> dict[str, float]:
    """Read what a rater gave to one side."""
    found = {}
    for name, dimension in BY_NAME.items():
        column = _column(name, position)
        if not (text := row.get(column, "").strip()):
            continue
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = float("nan")
        if not dimension.low <= found[name] <= dimension.high:
            expected = f"expected a number from {dimension.low} to {dimension.high}"
            raise UserError(f"{place}: {column} is {text!r:.40}, {expected}; correct it or leave it empty")
    return found


def _column(dimension: str, position: int) -> str:
    return f"{dimension}_{position + 1}"


def _facts(place: str, row: dict[str, str]) -> Facts:
    """Read what a line says of its session."""
    models = row.get("model_1", row.get("model", "")), row.get("model_2", row.get("model", ""))
    if not (text := row.get("data", "").strip()):
        return Facts(models=models)
    try:
        said = [turn["dialogue"] for turn in json.loads(text).get("parsed_conversation", ())]
        return Facts(len(said), sum(map(len, said)), models) if said else Facts(models=models)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as err:
        expected = 'expected {"parsed_conversation": [{"dialogue": "…"}, …]}'
        raise UserError(f"{place}: data is no transcript, {expected}; correct it or leave it empty") from err
