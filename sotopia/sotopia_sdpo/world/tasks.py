"""What each `--task` runs: which scenarios, how many combos of each, in which roles, at which temperature, how often.

The one table of the tasks; names of tasks, splits and files are fixed, since users type them.
"""

from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.step_files import LOCATED, NEGATIVE_COMBOS, StepFile


TEMPERATURE = 0.7
POSITIVE_TEMPERATURE = 1.0
POSITIVE_TRIALS = 5
ALL_SPLIT = "sotopia_env"
HARD_SPLIT = "sotopia_hard_env"


class Task(NamedTuple):
    """One task."""

    name: str
    splits: tuple[str, ...] = ()
    """Its splits in the split file; empty where a file names the combos."""
    combos_per_env: int | None = None
    """How many combos of a scenario are taken; None: all."""
    target_temperature: float = TEMPERATURE
    trials: int = 1
    file: StepFile | None = None
    """The file of the data folder that names the combos instead."""
    replays: bool = False
    """Whether the file's sessions are replayed up to their located turn, instead of started anew."""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("sft", ("SFT-round-1",), 5),
        Task("neg", ("dev-round-1", "selftrain-round-2", "selftrain-round-3", "selftrain-round-4"), 8),
        Task("pos", target_temperature=POSITIVE_TEMPERATURE, trials=POSITIVE_TRIALS, file=NEGATIVE_COMBOS),
        Task("hpos", target_temperature=POSITIVE_TEMPERATURE, trials=POSITIVE_TRIALS, file=LOCATED, replays=True),
        Task("all", (ALL_SPLIT,)),
        Task("hard", (HARD_SPLIT,)),
    )
}


def task_of(name: str) -> Task:
    """Find a task.

    Raises:
        UserError: if there is none of this name.
    """
    if name not in TASKS:
        raise UserError(f"--task {name!r} is not a task; expected one of {', '.join(TASKS)}")
    return TASKS[name]
