"""The scripts from episodes to pairs are killed in every step, and started again.

Walks of the package's small game need no judge, so the whole chain is quick: episodes, located turns by a model and by
replays, continuations, segments by both. Several processes share one Redis and one folder. What they write is compared
with what the same chain writes undisturbed: lost is a record that it lacks, wrong one that is another.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.store import open_store

from .trial import CONCURRENCY, LONGEST_S, ROOT, Process, Redis, Row, Trial, ends_well, models_at, start


PROCESSES = 3
QUESTS = 60
LATENCY_MS = 30
BY_REPLAY = ("--by", "replay", "--rollouts", "4")
PROVEN, CUT = "proven.json", "cut.json"


class Step(NamedTuple):
    """A script with its options, and the file that it writes, if it does."""

    script: str
    options: tuple[str, ...]
    writes: str = ""
    asks: str = ""
    """Who is called; a script that calls nobody is quick, and is not killed."""


STEPS = (
    Step("rollout", ("--env", "game", "--task", "neg", "--limit", str(QUESTS)), asks="alpha"),
    Step("data_filtering_negative", (), "negative_data.json"),
    Step("locate", (), "negative_data_error.json", asks="annotator"),
    Step("rollout", ("--env", "game", "--task", "hpos"), asks="alpha"),
    Step("data_filtering_positive", (), "preference_data.json"),
    Step("auto_tail", (), "preference_data_auto.json", asks="annotator"),
    Step("locate", (*BY_REPLAY, "--output", PROVEN), PROVEN, asks="alpha"),
    Step("auto_tail", (*BY_REPLAY, "--output", CUT), CUT, asks="alpha"),
)


def chains_killed(trial: Trial) -> Row:
    """Each step that calls a model is killed at a drawn moment, two processes of three, and these start again."""
    with ExitStack() as stack, Redis(trial.folder).start() as redis:
        (port,) = free_ports()
        models_at(stack, trial.folder, port, "--latency-ms", str(LATENCY_MS), "--exponential")
        started = time.monotonic()
        files, tried, wrong = [], 0, 0
        for number, is_disturbed in enumerate((False, True)):
            folder = trial.folder / f"chain-{number}"
            folder.mkdir()
            db = f"redis://127.0.0.1:{redis.port}/{number}"
            for step in STEPS:
                kills, faults = _run(trial, step, folder, db, port, is_disturbed and bool(step.asks), stack)
                tried, wrong = tried + kills, wrong + faults
            files.append([_read(folder / step.writes) for step in STEPS if step.writes])
        with open_store(db) as store:
            store.check_whole()
            doubled = sum(count - 1 for count in Counter(head.key for head in store.heads()).values())
        lost = sum(max(0, len(whole) - len(found)) for whole, found in zip(*files, strict=True))
        pairs = (pair for whole, found in zip(*files, strict=True) for pair in zip(whole, found, strict=False))
        wrong += sum(one != other for one, other in pairs)
        items = sum(map(len, files[0]))
        return Row("steps killed", tried, items, lost, doubled, wrong, time.monotonic() - started)


def _run(
    trial: Trial, step: Step, folder: Path, db: str, port: int, is_killed: bool, stack: ExitStack
) -> tuple[int, int]:
    """Run a step; return how often it was killed, and how many processes did not end well."""
    model = ["--model", f"custom/{step.asks}@http://127.0.0.1:{port}/v1"] if step.asks else []
    flight = ["--concurrency", str(CONCURRENCY)] if step.asks else []
    options = [str(folder / word) if word in (PROVEN, CUT) else word for word in step.options]
    command = [str(ROOT / "dpo" / f"{step.script}.py"), *options, *model, *flight]
    command += ["--db", db, "--data-dir", str(folder)]
    processes: list[Process] = [start(trial, command) for _ in range(PROCESSES if is_killed else 1)]
    stack.callback(lambda: [process.kill() for process in processes])
    before = _outputs(trial) - len(processes)
    killed: list[int] = []
    if is_killed:
        for number in random.sample(range(PROCESSES), PROCESSES - 1):
            _wait_until_at_work(trial, before + number)
            time.sleep(random.uniform(0, 0.5))
            if processes[number].poll() is None:
                processes[number].kill()
                killed.append(number)
                processes.append(start(trial, command))
    wrong = ends_well(trial, processes, killed, before)
    return len(killed), wrong


def _outputs(trial: Trial) -> int:
    return len(list(trial.folder.glob("out-*")))


def _wait_until_at_work(trial: Trial, number: int) -> None:
    """Wait until a process has said something, which it does once it has begun."""
    end = time.monotonic() + LONGEST_S
    while not (trial.folder / f"out-{number}").stat().st_size and time.monotonic() < end:
        time.sleep(0.05)


def _read(path: Path) -> Sequence[Any]:
    found: list[Any] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return found
