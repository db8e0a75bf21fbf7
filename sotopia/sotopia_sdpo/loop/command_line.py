"""What demo.sh and compare.sh have in common: the command line, a run folder claimed, and the table at the end."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError, run_at_edge
from sotopia_sdpo.loop import arms
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.processes import claimed, ended_by_signals
from sotopia_sdpo.loop.runner import Runner, say
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.loop.steps import Step
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.play.wording import disagreement
from sotopia_sdpo.store import open_store


EXIT_PIPE = 141
"""As a shell has it for a command whose reader has gone."""


class Script(NamedTuple):
    """One of them."""

    command: str
    about: str
    settings: type[Settings]
    loop: Callable[[Any, Machine, Runner], None]


def run(script: Script, arguments: Sequence[str] | None, machine: type[Machine]) -> int:
    """Run a script with a command line (None: this process's), and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if {"-h", "--help"} & set(words):
            say(f"{script.command} [NAME=VALUE ...]\n\n{script.about}\nSettings:\n{script.settings.help()}")
            return EXIT_DONE
        return run_at_edge(lambda: _run(script, words, machine))
    except BrokenPipeError:  # nobody reads on; and nothing is left to say at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE


def _run(script: Script, words: Sequence[str], machine: type[Machine]) -> None:
    settings = script.settings.read(words, os.environ)
    for name, meant in script.settings.misspelt(os.environ).items():
        print(f"note: no setting is named {name}, so it changes nothing; did you mean {meant}?", file=sys.stderr)
    if settings.sft_data and (found := disagreement(settings.sft_data, load_template(settings.prompt_template))):
        raise UserError(f"SFT_DATA={settings.sft_data}: {found.replace('--prompt-template ', 'PROMPT_TEMPLATE=')}")
    if not settings.base:
        # As train.sh does with the demo's configs: with a second thread so small a model waits for its core more than
        # it gains.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ended_by_signals(), claimed(settings.run), Runner(settings.run, {"batch": str(settings.batch)}) as runner:
        script.loop(settings, machine(settings), runner)


def show_results(runner: Runner, evaluated: Mapping[str, Sequence[Step]], file: str) -> None:
    """Print the arms side by side, and write them to a file of the run folder."""
    tags = {arm: [tag for step in steps for tag in runner.tags(step)] for arm, steps in evaluated.items()}
    with open_store(runner.database.url, create=False) as store:
        arms.show(store, [f"{arm}={','.join(found)}" for arm, found in tags.items()], runner.run / file)
