"""The options that the scripts of dpo/ share, each with its help, and how a script runs its command."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.errors import UserError, run_at_edge
from sotopia_sdpo.options import (
    Attempts,
    Database,
    DataDir,
    MaxActions,
    PromptTemplate,
    RequestsPerMinute,
    Script,
    Timeout,
)
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
Limit = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="Take at most this many dialogues or pairs.")
]
Seed = Annotated[int, typer.Option(help="The seed of the sample that is drawn.")]

Annotator = Annotated[str, typer.Option(help="The model to ask: a litellm name or custom/NAME@URL.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Questions in flight at any time.")]
AskSeed = Annotated[int, typer.Option("--seed", help="The seed of the model's answers; another one asks afresh.")]
Budget = Annotated[
    float | None, typer.Option(show_default=False, min=0.0, help="The most that this run may spend, in US dollars.")
]
RubricFile = Annotated[
    Path | None,
    typer.Option(
        "--rubric",
        show_default=False,
        metavar="FILE",
        help="A text that says what is good for the agent. (default: goal and relationship; in logs, the outcomes)",
    ),
]


class By(StrEnum):
    """Who says which turn it is, or where a segment ends."""

    model = "model"
    replay = "replay"


Turn = Annotated[
    By, typer.Option("--by", help="model: an annotator names the turn; replay: continuations by the agent show it.")
]
TurnModel = Annotated[
    str,
    typer.Option("--model", help="The model to ask; with another --by, the agent: a litellm name or custom/NAME@URL."),
]
DEFAULT_ROLLOUTS = 8
REPLAYS_IN_FLIGHT = 4
"""Each takes an instance of the environment, as in rollout.py."""
Rollouts = Annotated[int, typer.Option(min=2, help="With --by replay: the most continuations from a turn.")]
Env = Annotated[str, typer.Option("--env", show_default=False, help="The environment. (default: as the records say)")]
PlayingPartner = Annotated[
    str, typer.Option("--partner-model", show_default=False, help="For sessions of SOTOPIA: who plays the other side.")
]
PlayingEvaluator = Annotated[
    str, typer.Option("--evaluator-model", show_default=False, help="For sessions of SOTOPIA: who judges.")
]
ReplayTag = Annotated[
    str,
    typer.Option("--tag", show_default=False, help="A name for the continuations. (default: that of task hpos)"),
]
InFlight = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        show_default=False,
        min=1,
        help="At most this many at once. (default: questions 15, episodes 4)",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be asked and what it takes; call nothing.")]


def place(chosen: Path | None, file: StepFile, data_dir: Path | None) -> Path:
    """Return where a file is: as typed, seen from the current folder, else in the data folder under its own name."""
    return chosen.expanduser().absolute() if chosen else data_home(data_dir) / file.name


def check_replays(is_without_annotator: bool, verify: int | None, agent: str, asking: Mapping[str, object]) -> None:
    """Check the options of which some are for an annotator and others for continuations.

    Raises:
        UserError: if two do not go together, or nobody is named who plays.
    """
    if is_without_annotator:
        typed = [name for name, value in {**asking, "--verify": verify, "--agent": agent}.items() if value]
        if typed:
            raise UserError(f"{typed[0]} is for an annotator, --by asks none; leave it out")
    elif bool(verify) != bool(agent):
        raise UserError("--verify N and --agent MODEL go together: the agent plays the continuations")


def wanted(models: list[str] | None, partner: str, evaluator: str, tags: list[str] | None) -> Wanted:
    """Return the options that name runs, as one value."""
    return Wanted(tuple(models or ()), partner, evaluator, tuple(tags or ()))


def app_of(command: Callable[..., int | None]) -> typer.Typer:
    """Make the command line of a script.

    Args:
        command: its parameters are the options; it returns the exit code, or None for 0.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    add_step(app, command)
    return app


def add_step(app: typer.Typer, command: Callable[..., int | None], name: str | None = None) -> None:
    """Add a script's command to a command line, under a name if it is one of several."""

    @app.command(name, cls=Script)
    @wraps(command)
    def at_edge(**options: Any) -> None:
        raise typer.Exit(run_at_edge(lambda: command(**options)))


def script(command: Callable[..., int | None]) -> None:
    """Run a script from its command line."""
    app_of(command)()


__all__ = ["Attempts", "DataDir", "Database", "MaxActions", "PromptTemplate", "RequestsPerMinute", "Timeout"]
