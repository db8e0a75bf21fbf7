"""`python dpo/results.py`: put runs of several agents on the same scenarios side by side."""

from typing import Annotated

import typer

from sotopia_sdpo.loop import arms
from sotopia_sdpo.pairs import options
from sotopia_sdpo.store import database_url, open_store


Arms = Annotated[
    list[str], typer.Option("--arm", show_default=False, metavar="NAME=TAG[,TAG...]", help="An arm; may be repeated.")
]


def main(
    arm: Arms, output: options.Output = None, db: options.Database = None, data_dir: options.DataDir = None
) -> None:
    """Put runs of several agents on the same scenarios side by side."""
    with open_store(database_url(db, data_dir), create=False) as store:
        arms.show(store, arm, output.expanduser().absolute() if output else None)
