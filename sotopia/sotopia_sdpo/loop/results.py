"""`python dpo/results.py`: put runs of several agents on the same scenarios side by side."""

from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import arms
from sotopia_sdpo.pairs import options
from sotopia_sdpo.results.league import league_of
from sotopia_sdpo.results.score_files import read_tables
from sotopia_sdpo.store import database_url, open_store


Arms = Annotated[
    list[str] | None,
    typer.Option("--arm", show_default=False, metavar="NAME=TAG[,TAG...]", help="An arm; may be repeated."),
]
From = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        show_default=False,
        metavar="FILE",
        help="In the place of --arm: scores that --scores has written, here or on another machine; may be repeated.",
    ),
]
Csv = Annotated[
    Path | None, typer.Option(show_default=False, help="Write every mean and every difference, a line each.")
]
Latex = Annotated[Path | None, typer.Option(show_default=False, help="Write the table for LaTeX (booktabs).")]
Figure = Annotated[
    Path | None, typer.Option(show_default=False, help="Draw the arms with their intervals (.png, .pdf or .svg).")
]
Scores = Annotated[
    Path | None, typer.Option(show_default=False, help="Write every episode's scores, for --from (.csv).")
]


def main(
    arm: Arms = None,
    from_: From = None,
    output: options.Output = None,
    csv: Csv = None,
    latex: Latex = None,
    figure: Figure = None,
    scores: Scores = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Put runs of several agents on the same scenarios side by side."""
    typed = (path.expanduser().absolute() if path else None for path in (output, csv, latex, figure, scores))
    files = arms.Files(*typed)
    if bool(arm) == bool(from_):
        raise UserError("expected arms of a database, --arm NAME=TAG, or tables of scores, --from FILE")
    if from_:
        arms.publish(league_of(read_tables([path.expanduser().absolute() for path in from_])), files)
        return
    with open_store(database_url(db, data_dir), create=False) as store:
        arms.show(store, arm or [], files)
