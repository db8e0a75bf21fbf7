"""The command `sdpo`: the steps from episodes to pairs, the whole loop, training and serving, without a checkout.

Each is what a script of a checkout runs, with its options: `sdpo locate` is dpo/locate.py, `sdpo demo` dpo/demo.sh.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import typer

from sotopia_sdpo import options, rollout
from sotopia_sdpo.errors import UserError, run_at_edge
from sotopia_sdpo.logs import step as from_logs
from sotopia_sdpo.loop import results
from sotopia_sdpo.pairs.options import add_step
from sotopia_sdpo.pairs.steps import auto_tail, locate, mix, negatives, positives, sft_data
from sotopia_sdpo.places import NAME, TRAINING_PACKAGE, training_command
from sotopia_sdpo.report import step as report


SCRIPTS: dict[str, Callable[..., int | None]] = {
    "from-logs": from_logs.main,
    "rollout": rollout.main,
    "sft-data": sft_data.main,
    "negatives": negatives.main,
    "locate": locate.main,
    "positives": positives.main,
    "auto-tail": auto_tail.main,
    "mix": mix.main,
    "report": report.main,
    "results": results.main,
}
HOSTS_COMMANDS = {"sotopia": "sotopia_sdpo", "llamafactory-cli": TRAINING_PACKAGE, "lmf": TRAINING_PACKAGE}
"""Commands that a host installs too, and by which package they are ours."""
AS_TYPED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    help="From episodes to preference pairs, to a trained agent.",
    cls=options.Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in SCRIPTS.items():
    add_step(app, command, name)


@app.callback()
def main_options(version: options.Version = False) -> None:
    """Make preference pairs of episodes, and a trained agent of pairs."""


@app.command(cls=options.Script, context_settings=AS_TYPED)
def demo(context: typer.Context) -> None:
    """Run the whole loop; `sdpo demo --help` lists its settings."""
    from sotopia_sdpo.loop.demo import main as loop

    raise typer.Exit(loop(context.args))


@app.command(cls=options.Script, context_settings=AS_TYPED)
def compare(context: typer.Context) -> None:
    """Compare the methods from one agent and its negatives; `sdpo compare --help` lists its settings."""
    from sotopia_sdpo.loop.compare import main as loop

    raise typer.Exit(loop(context.args))


@app.command(cls=options.Script, context_settings=AS_TYPED)
def train(context: typer.Context) -> None:
    """Train: CONFIG.yaml, then key=value; `sdpo train --help` says what is trained without a config."""
    _become("train", context.args)


@app.command(cls=options.Script, context_settings=AS_TYPED)
def serve(context: typer.Context) -> None:
    """Serve a trained model: CONFIG.yaml, then key=value."""
    _become("inference", context.args)


def _become(script: str, arguments: list[str]) -> None:
    """Go on as a command of the training side, which is met in files alone."""

    def command() -> None:
        if find_spec(TRAINING_PACKAGE) is None:
            raise UserError("llamafactory-sdpo, which trains and serves, is not installed here; install it")
        words = [sys.executable if word == "{python}" else word for word in training_command(script)]
        os.execvp(words[0], [*words, *arguments])

    raise typer.Exit(run_at_edge(command))


def _note_hosts_commands() -> None:
    """Say which commands beside this one are the hosts' own, installed after ours."""
    for name, package in HOSTS_COMMANDS.items():
        path = Path(sys.executable).with_name(name)
        if find_spec(package) and path.is_file() and package not in path.read_text("utf-8", "replace"):
            ours = package.replace("_", "-")
            remedy = f"install {ours} again, alone (pip install --force-reinstall --no-deps its wheel)"
            print(f"note: {name} is the host's own, installed after ours; {remedy}", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    _note_hosts_commands()
    app(prog_name=NAME)


if __name__ == "__main__":
    main()
