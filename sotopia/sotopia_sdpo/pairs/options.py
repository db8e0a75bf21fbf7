"""The options that the scripts of dpo/ share, each with its help, and how a script runs its command."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.options import Attempts, Database, DataDir, PromptTemplate, RequestsPerMinute, Timeout
from sotopia_sdpo.pairs.runs import Wanted
from sotopia_sdpo.step_files import StepFile
from sotopia_sdpo.store.urls import data_home


DEFAULT_ANNOTATOR = "gpt-4o"

Models = Annotated[
    list[str] | None,
    typer.Option(show_default=False, help="The agent whose episodes to use, as typed for `sotopia benchmark`."),
]
Partner = Annotated[str, typer.Option(show_default=False, help="Only episodes with this partner. (default: any)")]
Evaluator = Annotated[str, typer.Option(show_default=False, help="Only episodes judged by this evaluator.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", show_default=False, help="A run by its tag instead; may be repeated.")
]
Input = Annotated[
    Path | None, typer.Option("--input", show_default=False, help="The file to read. (default: in the data folder)")
]
Output = Annotated[
    Path | None, typer.Option("--output", show_default=False, help="The file to write. (default: in the data folder)")
]
Limit = Annotated[int | None, typer.Option(show_default=False, min=1, help="Take at most this many.")]
Seed = Annotated[int, typer.Option(help="The seed of the sample that is drawn.")]

Annotator = Annotated[str, typer.Option(help="The model to ask: a litellm name or custom/NAME@URL.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Questions in flight at any time.")]
AskSeed = Annotated[int, typer.Option("--seed", help="The seed of the model's answers; another one asks afresh.")]
Budget = Annotated[
    float | None, typer.Option(show_default=False, min=0.0, help="The most that this run may spend, in US dollars.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be asked and what it takes; call nothing.")]


def place(chosen: Path | None, file: StepFile, data_dir: Path | None) -> Path:
    """Return where a file is: as typed, seen from the current folder, else in the data folder under its own name."""
    return chosen.expanduser().absolute() if chosen else data_home(data_dir) / file.name


def wanted(models: list[str] | None, partner: str, evaluator: str, tags: list[str] | None) -> Wanted:
    """Return the options that name runs, as one value."""
    return Wanted(tuple(models or ()), partner, evaluator, tuple(tags or ()))


def app_of(command: Callable[..., int | None]) -> typer.Typer:
    """Make the command line of a script.

    Args:
        command: its parameters are the options; it returns the exit code, or None for 0.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command()
    @wraps(command)
    def at_edge(**options: Any) -> None:
        raise typer.Exit(run_at_edge(lambda: command(**options)))

    return app


def script(command: Callable[..., int | None]) -> None:
    """Run a script from its command line."""
    app_of(command)()


__all__ = ["Attempts", "DataDir", "Database", "PromptTemplate", "RequestsPerMinute", "Timeout"]
