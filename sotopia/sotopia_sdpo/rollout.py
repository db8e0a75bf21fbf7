"""`dpo/rollout.py`: play the quests of an environment, and show the results.

Comes in: the options as typed. Goes out: episodes in the store, results on stdout, progress on stderr, an exit code.
Invariant: as in `benchmark.py`: whatever is wrong with the input is found before the first episode starts.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, cast

import typer

from sotopia_sdpo import options
from sotopia_sdpo.account import exit_code_of
from sotopia_sdpo.envs.protocol import SPLITS, Split
from sotopia_sdpo.envs.registry import environments, open_environment
from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.llm import limits
from sotopia_sdpo.llm.spec import parse_model, short_name
from sotopia_sdpo.results.scores import results_of, scores_of
from sotopia_sdpo.results.tables import kinds_table, results_table, simulation_note
from sotopia_sdpo.run.execute import probe
from sotopia_sdpo.run.plan import Plan, plan
from sotopia_sdpo.run.quests import (
    GREEDY,
    NEGATIVE_FILES,
    QUEST_SPLITS,
    QuestItem,
    QuestRun,
    items_of_negatives,
    items_of_quests,
    kinds_of,
    quests_of,
)
from sotopia_sdpo.run.rollouts import roll_out_all
from sotopia_sdpo.run.runner import Counts
from sotopia_sdpo.store import data_home, database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.urls import SQLITE_PREFIX
from sotopia_sdpo.world.tasks import TASKS


EPISODES_IN_FLIGHT = 4
"""Each takes an instance of the environment; one of ScienceWorld is half a gigabyte."""
QUEST_TASKS = (*QUEST_SPLITS, *NEGATIVE_FILES)
TASKS_HELP = (
    "sft: gold actions on train quests; neg: the model on these; pos, hpos: negatives anew, or from their located "
    "turn; all: the model on test quests."
)

Env = Annotated[
    str, typer.Option("--env", show_default=False, help=f"The environment: one of {', '.join(environments())}.")
]
TaskOption = Annotated[str, typer.Option("--task", show_default=False, help=TASKS_HELP)]
Model = Annotated[
    str, typer.Option("--model", show_default=False, help="The agent: a litellm name or custom/NAME@URL; not for sft.")
]
TasksOf = Annotated[
    str, typer.Option("--tasks-of", show_default=False, help="Only these kinds of quests, with commas. (default: all)")
]
SplitOption = Annotated[
    str, typer.Option("--split", show_default=False, help="Another split: train, dev or test. (default: the task's)")
]
Trials = Annotated[
    int | None, typer.Option(show_default=False, min=1, help="Episodes of each quest. (default: 1; pos, hpos: 5)")
]
Limit = Annotated[int | None, typer.Option(show_default=False, min=1, help="At most this many episodes.")]
Seed = Annotated[int, typer.Option(help="Decides which quests come first, and the draws of the model.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        show_default=False,
        min=0.0,
        help="The sampling temperature. (default: neg 0.7; pos, hpos 1.0; all 0, which is greedy)",
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Episodes in flight, each in an instance of its own.")]


def main(
    env: Env,
    task: TaskOption,
    model: Model = "",
    tasks_of: TasksOf = "",
    split: SplitOption = "",
    trials: Trials = None,
    limit: Limit = None,
    seed: Seed = 0,
    temperature: Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    max_actions: options.MaxActions = None,
    tag: options.TagOption = "",
    concurrency: Concurrency = EPISODES_IN_FLIGHT,
    dry_run: options.DryRun = False,
    db: options.Database = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
) -> int:
    """Play the quests of an environment; a second call goes on where the first one stopped."""
    _check(task, model, split)
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    with closing(open_environment(env)) as environment:
        run = QuestRun(
            env=env,
            task=TASKS[task],
            model=parse_model(model) if model else None,
            env_settings=dict(environment.settings),
            split=_split_of(task, split),
            temperature=_temperature_of(task) if temperature is None else temperature,
            top_p=top_p,
            top_k=top_k,
            max_actions=max_actions or environment.max_actions,
            trials=trials or TASKS[task].trials,
            seed=seed,
            tag=tag,
        )
        kinds = kinds_of(environment, [kind.strip() for kind in tasks_of.split(",") if kind.strip()])
        quests = quests_of(environment, kinds, run.split, seed) if run.split else []
    url = database_url(db, data_dir)
    with _readable(url, may_be_new=run.split is not None) as store:
        items = items_of_quests(run, quests)
        if not run.split:
            items = items_of_negatives(run, data_home(data_dir) / NEGATIVE_FILES[task].name, store, kinds)
        work = plan(store, items[:limit])
    if dry_run:
        print("\n".join([_plan_line(work, run), *_forecast(work)]))
        return EXIT_DONE
    print(_plan_line(work, run), file=sys.stderr)
    if work.items and run.model:
        probe([run.model], chosen)
    with open_store(url) as store:
        made = partial(open_environment, env)
        counts = roll_out_all(store, work.items, made, chosen, work.done) if work.items else Counts(0)
        if not counts.stopped_because:
            _show(run, store)
    return exit_code_of(counts.missed(len(work.done)))


@contextmanager
def _readable(url: str, may_be_new: bool) -> Iterator[Store]:
    """Open the database as it is; one that is not there yet is made only when nothing can be refused any more."""
    is_new = url.startswith(SQLITE_PREFIX) and not Path(url.removeprefix(SQLITE_PREFIX)).expanduser().exists()
    with TemporaryDirectory() as folder:
        chosen = f"{SQLITE_PREFIX}{folder}/empty.db" if may_be_new and is_new else url
        with open_store(chosen, create=chosen != url) as store:
            yield store


def _check(task: str, model: str, split: str) -> None:
    """Check the options that depend on each other.

    Raises:
        UserError: if one is wrong.
    """
    if task not in QUEST_TASKS:
        raise UserError(f"--task {task!r} is no task of an environment; expected one of {', '.join(QUEST_TASKS)}")
    if (task == "sft") == bool(model):
        wrong = "plays the gold actions; leave --model out" if model else "plays a model; name it with --model"
        raise UserError(f"--task {task} {wrong}")
    if split and task in NEGATIVE_FILES:
        raise UserError(f"--split: task {task} plays the negatives of {NEGATIVE_FILES[task].name}; leave it out")
    if split and split not in SPLITS:
        raise UserError(f"--split {split!r}: expected one of {', '.join(SPLITS)}")


def _split_of(task: str, typed: str) -> Split | None:
    """Return the split that is played; None where negatives say what is."""
    return cast(Split, typed) if typed else QUEST_SPLITS.get(task)


def _temperature_of(task: str) -> float:
    """Return the temperature of a task: samples are drawn as SOTOPIA's are, an evaluation is greedy."""
    return TASKS[task].target_temperature if task in ("neg", *NEGATIVE_FILES) else GREEDY


def _plan_line(work: Plan[QuestItem], run: QuestRun) -> str:
    """Describe the work in one line."""
    split = f", split {run.split}" if run.split else ""
    settings = ", ".join(f"{name} {value}" for name, value in run.env_settings.items())
    told = f"{run.env}, task {run.task.name}{split}, seed {run.seed}, at most {run.max_actions} actions"
    again = f", {work.failed} failed before and run again" if work.failed else ""
    total = len(work.items) + len(work.done)
    return f"{told}{settings and f', {settings}'}: {total} episodes, {len(work.done)} done before{again}"


def _forecast(work: Plan[QuestItem]) -> list[str]:
    """Return what would run by tag, and the most that a model would be asked for."""
    lines = [f"  {count} x {tag}" for tag, count in Counter(item.key.tag for item in work.items).items()]
    done = [len(item.history.actions if item.history else ()) for item in work.items]
    asked = [max(item.run.max_actions - count, 0) for item, count in zip(work.items, done, strict=True)]
    if any(item.run.model for item in work.items):
        lines.append(f"at most {sum(asked):,} calls, one an action; an episode that is over earlier takes fewer")
    return lines


def _show(run: QuestRun, store: Store) -> None:
    """Print the results of all episodes of the run's tags."""
    if scores := scores_of(store, run.tags):
        title = f"{short_name(run.players[1])} in {run.env}, task {run.task.name}"
        lines = [results_table(title, results_of(scores, ())), *kinds_table(scores), *simulation_note(scores)]
        print("\n".join(lines))
