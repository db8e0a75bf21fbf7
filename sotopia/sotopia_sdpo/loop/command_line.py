"""What demo.sh and compare.sh have in common: the command line, a run folder claimed, and the table at the end."""

import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError, run_at_edge
from sotopia_sdpo.loop import arms
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.plan import Planner, overview, table
from sotopia_sdpo.loop.settings import HELP_WIDTH, Settings
from sotopia_sdpo.make.lines import say
from sotopia_sdpo.make.processes import ENDING_SIGNALS, claimed, ended_by_signals
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.make.steps import Step
from sotopia_sdpo.places import TRAINING, typed
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.play.wording import disagreement
from sotopia_sdpo.store import open_store


PLAN = "--plan"
EXIT_PIPE = 141
"""As a shell has it for a command whose reader has gone."""


class Script(NamedTuple):
    """One of them."""

    command: str
    about: str
    settings: type[Settings]
    loop: Callable[[Any, Machine, Runner], None]
    flags: Mapping[str, Mapping[str, str]] = {}
    """What a word like --tune stands for: settings, which those that are given win over."""


def run(script: Script, arguments: Sequence[str] | None, machine: type[Machine]) -> int:
    """Run a script with a command line (None: this process's), and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if {"-h", "--help"} & set(words):
            flags = " ".join(f"[{flag}]" for flag in (*script.flags, PLAN))
            usage = textwrap.fill(f"{script.command} {flags} [NAME=VALUE ...]", HELP_WIDTH, subsequent_indent="    ")
            say(typed(f"{usage}\n\n{script.about}\nSettings:\n{script.settings.help()}"))
            return EXIT_DONE
        return run_at_edge(lambda: _run(script, words, machine))
    except BrokenPipeError:  # nobody reads on; and nothing is left to say at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE


def _run(script: Script, words: Sequence[str], machine: type[Machine]) -> None:
    if not TRAINING.is_dir():
        raise UserError("the loop trains, and llamafactory-sdpo is not installed beside sotopia-sdpo; install it")
    is_plan = PLAN in words
    given = {name: value for word in words for name, value in script.flags.get(word, {}).items()}
    words = [word for word in words if word not in (*script.flags, PLAN)]
    settings = script.settings.read(words, {**given, **os.environ})
    for name, meant in script.settings.misspelt(os.environ).items():
        print(f"note: no setting is named {name}, so it changes nothing; did you mean {meant}?", file=sys.stderr)
    if settings.sft_data and (found := disagreement(settings.sft_data, load_template(settings.prompt_template))):
        raise UserError(f"SFT_DATA={settings.sft_data}: {found.replace('--prompt-template ', 'PROMPT_TEMPLATE=')}")
    if not settings.base and not settings.agent:
        # As train.sh does with the demo's model, which is as small: with a second thread it waits for its core more
        # than it gains. It is the same on every machine: one process on the CPU, unless a GPU is named here.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    values = {"batch": str(settings.batch)}
    planner = Planner(settings.run, values)
    script.loop(settings, machine(settings), planner)
    if is_plan:
        say(table(planner.planned))
        return
    say(f"{overview(planner.planned)}; run folder: {settings.run}")
    try:
        with (
            ended_by_signals(),
            claimed(settings.run),
            Runner(settings.run, values, may_miss=settings.may_miss) as runner,
        ):
            script.loop(settings, machine(settings), runner)
    except BrokenPipeError:
        raise
    except OSError as err:
        where = err.filename or settings.run
        raise UserError(f"{where}: {err.strerror or err}; mend that, and the same command goes on from here") from err
    except SystemExit as err:
        if err.code in {128 + number for number in ENDING_SIGNALS}:
            print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise


def show_results(runner: Runner, evaluated: Mapping[str, Sequence[Step]], file: str) -> None:
    """Print the arms side by side, and write them to a file of the run folder."""
    tags = {arm: [tag for step in steps for tag in runner.tags(step)] for arm, steps in evaluated.items()}
    with open_store(runner.database.url, create=False) as store:
        arms.show(store, [f"{arm}={','.join(found)}" for arm, found in tags.items()], arms.Files(runner.run / file))
