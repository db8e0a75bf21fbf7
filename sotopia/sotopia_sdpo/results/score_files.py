"""Arms as a table of their scores: written where they were sampled, and read together with those of other machines.

Comes in: arms; or paths of such tables. Goes out: CSV, a line a score of an episode; or arms. Invariant: what is read
is what was written. Runs of several files are different ones, whatever their names: a file's name becomes part of its
runs', with as many of its folders as tell it from the others.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.league import Arm, ArmRun
from sotopia_sdpo.results.scores import Score
from sotopia_sdpo.text import as_cell, is_one_line, of_cell, one_line


PLACE = ("episode", "environment", "combo", "position", "kind", "self_chat", "simulated")
FIELDS = ("arm", "run", *PLACE, "score", "value")
UNSCORED = "unscored"
"""In the place of a score: how many episodes of the arm came to none."""


def score_table(arms: Iterable[Arm]) -> str:
    """Write a line for every score of every episode; what single judges of a panel said is left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for arm in arms:
        for run in arm.runs:
            for number, one in enumerate(run.scores):
                names = map(as_cell, (arm.name, run.name))
                scene = map(as_cell, (one.environment, one.combo))
                place = (number, *scene, one.position, as_cell(one.kind), int(one.is_self_chat), int(one.is_simulated))
                head = (*names, *place)
                writer.writerows((*head, as_cell(name), repr(value)) for name, value in one.values.items())
        if arm.unscored:
            writer.writerow((as_cell(arm.name), "", *[""] * len(PLACE), UNSCORED, arm.unscored))
    return out.getvalue()


def read_tables(paths: Sequence[Path]) -> list[Arm]:
    """Read the arms of some tables; those of one name are one arm.

    Raises:
        UserError: if a file cannot be read, is no such table, has no score, or comes twice.
    """
    runs: dict[str, list[ArmRun]] = {}
    unscored: dict[str, int] = defaultdict(int)
    for path, name in zip(paths, _names_of(paths), strict=True):
        prefix = f"{name}:" if len(paths) > 1 else ""
        found = _read(path, unscored)
        if not found:
            raise UserError(f"{path}: it has no score")
        for (arm, run), scores in found.items():
            runs.setdefault(arm, []).append(ArmRun(f"{prefix}{run}", scores))
    return [Arm(name, of_arm, unscored[name]) for name, of_arm in runs.items()]


def _names_of(paths: Sequence[Path]) -> list[str]:
    """Name every file in another way: by its stem, else by its name and as many of its folders as it takes.

    Raises:
        UserError: if one comes twice.
    """
    places = [path.resolve() for path in paths]
    if twice := next((place for number, place in enumerate(places) if place in places[:number]), None):
        raise UserError(f"{twice}: given twice, and each of its runs would count twice; leave it out once")
    names, depth = [place.stem for place in places], 0
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(place.parts[-depth:]) for place in places]
    return names


def _read(path: Path, unscored: dict[str, int]) -> dict[tuple[str, str], list[Score]]:
    """Return the scores of a table by arm and run, and add up the episodes without one."""
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        rows = [(table.line_num, _texts(row)) for row in table]
    except (OSError, UnicodeError, csv.Error) as err:
        raise UserError(f"{path}: cannot be read ({err})") from err
    if missing := [name for name in FIELDS if name not in (table.fieldnames or ())]:
        raise UserError(f"{path}: no column {missing[0]}; expected a table that `--scores` has written")
    found: dict[tuple[str, str], dict[tuple[str, ...], Score]] = defaultdict(dict)
    for line, row in rows:
        try:
            if not is_one_line(row["arm"]):
                found_name = one_line(row["arm"])
                raise UserError(f"{path}: line {line}: expected an arm's name in one line, found {found_name}")
            if row["score"] == UNSCORED:
                unscored[row["arm"]] += int(row["value"])
                continue
            place = tuple(row[name] for name in PLACE)
            values = found[row["arm"], row["run"]].setdefault(place, _score(row)).values
            value = float(row["value"])
        except (TypeError, ValueError) as err:
            raise UserError(f"{path}: line {line}: expected numbers ({err})") from None
        if row["score"] in values:
            raise UserError(f"{path}: line {line}: this episode's {row['score']} has been given before")
        values[row["score"]] = value
    return {key: list(scores.values()) for key, scores in found.items()}


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the texts of its cells; numbers may have a sign, and what is missing or too much stays."""
    return {name: of_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def _score(row: dict[str, str]) -> Score:
    """Return what a row says of its episode."""
    return Score(
        row["environment"],
        row["combo"],
        int(row["position"]),
        {},
        bool(int(row["self_chat"])),
        bool(int(row["simulated"])),
        row["kind"],
    )
