"""The options of the commands, each with its help, in one place.

What users type is fixed (README); what is given here goes unchanged into the typed functions behind the commands.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperCommand, TyperGroup

from sotopia_sdpo.places import CHECKOUT, DATA
from sotopia_sdpo.store.urls import without_passwords
from sotopia_sdpo.world.tasks import TASKS


@contextmanager
def discreet() -> Iterator[None]:
    """Have errors of usage show no password of a URL that stands where none is expected."""
    try:
        yield
    except click.UsageError as err:
        err.message = without_passwords(err.message)
        raise


class Plain(click.Command):
    """Help in two columns, as click writes it: a table of rich's leaves 18 of 80 columns to what an option means."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help, without the marks that typer sets for rich in any case."""
        return super().get_help(ctx).replace("\\[", "[")

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence, for a list of commands; where it is longer than a line, the list breaks it."""
        return super().get_short_help_str(sys.maxsize)


class Commands(Plain, TyperGroup):
    """A group of commands with discreet errors."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with discreet():
            return super().invoke(ctx)


class Script(Plain, TyperCommand):
    """A command with discreet errors, which may stand alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        with discreet():
            return super().parse_args(ctx, args)


def print_version(is_asked: bool) -> None:
    """Print what is installed, and end."""
    if is_asked:
        print(f"sotopia-sdpo {version('sotopia-sdpo')} on sotopia {version('sotopia')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="SOTOPIA_DB",
        help="sqlite:///PATH or redis://HOST:PORT/N. Default: sotopia.db in the data folder (--data-dir).",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="SDPO_HOME",
        help=f"The data folder. Default: {'dpo/data of the checkout' if CHECKOUT else DATA}.",
        show_default=False,
    ),
]

Models = Annotated[
    list[str],
    typer.Option(help="A model to benchmark: a litellm name or custom/NAME@http://HOST:PORT/v1/; may be repeated."),
]
Partner = Annotated[str, typer.Option(help="The model on the other side.")]
Evaluator = Annotated[str, typer.Option(help="The model that judges; a panel of several with commas.")]


class PanelRule(StrEnum):
    """How the scores of several judges become one."""

    mean = "mean"
    median = "median"


PanelOption = Annotated[PanelRule, typer.Option("--panel", help="How the scores of several judges become one.")]
JudgeRepeats = Annotated[int, typer.Option(min=1, help="How often each judge is asked about a session.")]
Human = Annotated[
    list[str],
    typer.Option(show_default=False, help="A CSV file of people's ratings; several with commas, or repeated."),
]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        show_default=False,
        help="A judge's scores: an export of ours, or JSON by episode; FILE or NAME=FILE; several with commas.",
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        show_default=False, help="People's ratings (CSV) of a random part of the episodes, to correct the means by."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Episodes in flight at any time.")]
TaskOption = Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.")]
Trials = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="Episodes of each combo. (default: 1; pos, hpos: 5)")
]
Limit = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="At most this many episodes of each model.")
]
Seed = Annotated[int, typer.Option(help="Decides which combos of a scenario are taken, and the draws of the models.")]
Splits = Annotated[
    Path | None, typer.Option(show_default=False, help="A JSON file with the scenario ids of each stage.")
]
CombosPerEnv = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="Combos of each scenario. (default: sft 5, neg 8)")
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        show_default=False,
        help="A run: its short name (`sotopia runs`), the beginning of it, or a tag.",
    ),
]
PassAt = Annotated[
    float | None,
    typer.Option(
        show_default=False, help="The goal, or score of an environment, that passes. (default: 8; a solved quest)"
    ),
]
TagOption = Annotated[
    str, typer.Option(show_default=False, help="A name for the run instead of the one made of the models' names.")
]
PromptTemplate = Annotated[
    Path | None,
    typer.Option(
        show_default=False,
        help="A file with the wording of the agents' first turn, or `published`, in the published data's structure.",
    ),
]
SftData = Annotated[
    Path | None,
    typer.Option(
        show_default=False,
        help="What the agent was trained on: refuse to run where its first turns are worded in another way.",
    ),
]
Temperature = Annotated[
    float | None, typer.Option(show_default=False, min=0.0, help="The temperature of both agents. (default: 0.7)")
]
TargetTemperature = Annotated[
    float | None,
    typer.Option(
        show_default=False, min=0.0, help="That of the model under test alone. (default: 0.7; pos, hpos: 1.0)"
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(show_default=False, min=0.0, max=1.0, help="top_p of the model under test. (default: its server's)"),
]
TopK = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="top_k of the model under test. (default: its server's)")
]


MaxActions = Annotated[
    int | None,
    typer.Option(show_default=False, min=1, help="The most actions of an episode. (default: the environment's)"),
]


class SamplingPreset(StrEnum):
    """Whose way of drawing answers."""

    published = "published"


Preset = Annotated[
    SamplingPreset | None,
    typer.Option(show_default=False, help="`published`: --top-p 0.7 --top-k 50, as the paper's agents were sampled."),
]
OnlyShow = Annotated[
    bool, typer.Option("--only-show-performance/--no-only-show-performance", help="Show results, run nothing.")
]
ToJsonl = Annotated[
    bool,
    typer.Option("--output-to-jsonl/--no-output-to-jsonl", help="Write the results as models_vs_PARTNER.jsonl too."),
]
SaveDir = Annotated[Path, typer.Option(help="Where --output-to-jsonl writes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run and what it takes; call nothing.")]
Demo = Annotated[bool, typer.Option("--demo", help="Use the small world of the package; fills an empty database.")]
Attempts = Annotated[int, typer.Option("--max-attempts", min=1, help="Attempts of one call before it has failed.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds until an answer is given up.")]
RequestsPerMinute = Annotated[
    int | None,
    typer.Option(
        show_default=False, min=1, help="At most this many requests a minute to each model. (default: no limit)"
    ),
]
PushToDb = Annotated[
    bool,
    typer.Option(
        "--push-to-db/--no-push-to-db", help="Keep the episodes in the database; without it, only show the results."
    ),
]
PrintLogs = Annotated[
    bool, typer.Option("--print-logs/--no-print-logs", hidden=True, help="Accepted for upstream's sake.")
]
CombosUrl = Annotated[
    str,
    typer.Option(
        "--url", show_default=False, help="Take the combos from the JSON list at this address, not from the database."
    ),
]

ServerSeed = Annotated[int, typer.Option(help="Decides every answer, fault and latency.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one and says which.")]
HostOption = Annotated[str, typer.Option(help="The address to listen on.")]
AnnotationRate = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of annotations (located turns, segments) that are wrong.")
]
Rate = Annotated[float, typer.Option(min=0.0, max=1.0, help="The share of requests with this fault.")]
