"""Put runs of several agents on the same scenarios side by side.

Reads the scored episodes of every arm's tags; the first arm is what the others are compared with, paired by combo and
role. Several tags of an arm (seeds, trials) are pooled. Prints a table, and writes results.json if asked to.

    python dpo/results.py --arm sft=TAG --arm sdpo=TAG,TAG --output results.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from typing import Annotated

import typer

from sotopia_sdpo.loop import arms
from sotopia_sdpo.preference import options
from sotopia_sdpo.storage import database_url, open_store


Arms = Annotated[
    list[str], typer.Option("--arm", show_default=False, metavar="NAME=TAG[,TAG...]", help="An arm; may be repeated.")
]


def main(
    arm: Arms,
    output: options.Output = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Put runs of several agents on the same scenarios side by side."""

    def step() -> None:
        with open_store(database_url(db, data_dir), create=False) as store:
            arms.show(store, arm, output.expanduser().absolute() if output else None)

    options.end_with(step)


if __name__ == "__main__":
    options.script(main)
