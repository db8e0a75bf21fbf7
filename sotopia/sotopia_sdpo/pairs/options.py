"""The options that the scripts of dpo/ share, each with its help, in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.db_cli import Database, DataDir
from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.options import PromptTemplate, RequestsPerMinute
from sotopia_sdpo.pairs.runs import Wanted
from sotopia_sdpo.step_files import StepFile
from sotopia_sdpo.store.urls import data_home


DEFAULT_ANNOTATOR = "gpt-4o"

Models = Annotated[
    list[str] | None,
    typer.Option(show_default=False, help="The agent whose episodes are meant, as given to `sotopia benchmark`."),
]
Partner = Annotated[str, typer.Option(show_default=False, help="Only episodes with this partner. (default: any)")]
Evaluator = Annotated[str, typer.Option(show_default=False, help="Only episodes judged by this evaluator.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", show_default=False, help="The tag of a run instead; may be repeated.")
]
Input = Annotated[
    Path | None,
    typer.Option("--input", show_default=False, help="The file that is read. (default: in the data folder)"),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", show_default=False, help="The file that is written. (default: in the data folder)"),
]
Limit = Annotated[int | None, typer.Option(show_default=False, min=1, help="Take at most this many.")]
Seed = Annotated[int, typer.Option(help="Decides what is drawn by lot.")]

Annotator = Annotated[str, typer.Option(help="The model that is asked: a litellm name or custom/NAME@URL.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Questions in flight at any time.")]
AskSeed = Annotated[int, typer.Option("--seed", help="The seed of the model's answers; another one asks afresh.")]
Budget = Annotated[
    float | None, typer.Option(show_default=False, min=0.0, help="US dollars that this run may spend at most.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be asked and what it takes; call nothing.")]
Attempts = Annotated[int, typer.Option("--max-attempts", min=1, help="Attempts of one call before it has failed.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds until an answer is given up.")]


def place(chosen: Path | None, file: StepFile, data_dir: Path | None) -> Path:
    """Say where a file is: as typed, seen from the current folder, else in the data folder under its own name."""
    return chosen.expanduser().absolute() if chosen else data_home(data_dir) / file.name


def wanted(models: list[str] | None, partner: str, evaluator: str, tags: list[str] | None) -> Wanted:
    """Gather the options that name runs."""
    return Wanted(tuple(models or ()), partner, evaluator, tuple(tags or ()))


def app_of(command: Callable[..., None]) -> typer.Typer:
    """Make the command line of a script, whose options are the parameters of `command`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return app


def script(command: Callable[..., None]) -> None:
    """Run a script from its command line."""
    app_of(command)()


def end_with(step: Callable[[], int | None]) -> None:
    """Run what a script does, and end with its exit code."""
    raise typer.Exit(run_at_edge(step))


__all__ = ["DataDir", "Database", "PromptTemplate", "RequestsPerMinute"]
