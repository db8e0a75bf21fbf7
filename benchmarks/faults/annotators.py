"""Processes that ask annotators are killed, or cannot keep what they have paid for."""

import json
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from sotopia_sdpo.llm.cache import ANSWERS_FILE
from sotopia_sdpo.llm.kept import CLAIM_TTL_S
from sotopia_sdpo.make.servers import free_ports

from .trial import CONCURRENCY, KILLED, LONGEST_S, ROOT, Process, Redis, Row, Trial, ends_well, models_at, start, stats


LOCKED_S = 1.5 * CLAIM_TTL_S
Disturb = Callable[[Sequence[Process]], list[int]]
"""Does something to processes, and returns the numbers of those that it has killed."""


def annotators_killed(trial: Trial) -> Row:
    """Two of the processes that ask the same questions are killed; their answers lie in the folder that they share."""
    return _killed("2 annotators killed", trial, [trial.folder] * trial.processes)


def hosts_killed(trial: Trial) -> Row:
    """The same with a folder for each, so that only a Redis is shared."""
    folders = [trial.folder / f"host-{number}" for number in range(trial.processes)]
    with Redis(trial.folder).start() as redis:
        return _killed("2 hosts of annotators killed", trial, folders, "--db", f"redis://127.0.0.1:{redis.port}/0")


def answers_locked(trial: Trial) -> Row:
    """The file of the answers is locked for longer than claims hold, with questions in flight: none is paid twice."""

    def lock(_: Sequence[Process]) -> list[int]:
        with closing(sqlite3.connect(trial.folder / ANSWERS_FILE, timeout=LONGEST_S, isolation_level=None)) as file:
            file.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_S)
            file.execute("ROLLBACK")
        return []

    return _disturbed(f"answers locked {LOCKED_S:.0f} s", 1, trial, [trial.folder] * trial.processes, lock)


def _killed(fault: str, trial: Trial, folders: Sequence[Path], *more: str) -> Row:
    """Kill two of the processes that ask the same."""

    def kill(processes: Sequence[Process]) -> list[int]:
        killed = random.sample(range(trial.processes), min(KILLED, trial.processes - 1))
        for number in killed:
            processes[number].kill()
        return killed

    return _disturbed(fault, KILLED, trial, folders, kill, *more)


def _disturbed(fault: str, tried: int, trial: Trial, folders: Sequence[Path], disturb: Disturb, *more: str) -> Row:
    """Disturb processes that ask the same; doubled are answers that were paid for twice.

    What a killed process had in flight is paid for and not kept; it may be asked once more.
    """
    with ExitStack() as stack:
        (port,) = free_ports()
        models_at(stack, trial.folder, port)
        for folder in set(folders):
            write_negatives(folder, trial.episodes)
        model = f"custom/annotator@http://127.0.0.1:{port}/v1"
        ask = [str(ROOT / "dpo" / "locate.py"), "--model", model, "--concurrency", str(CONCURRENCY)]
        outputs = [trial.folder / f"located-{number}.json" for number in range(trial.processes)]
        started = time.monotonic()
        processes = [
            start(trial, [*ask, *more, "--data-dir", str(folder), "--output", str(output)])
            for folder, output in zip(folders, outputs, strict=True)
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        while stats(port).get("requests", 0) < trial.episodes // 5 and processes[0].poll() is None:
            time.sleep(0.05)
        killed = disturb(processes)
        wrong = ends_well(trial, processes, killed)
        files = [json.loads(path.read_text("utf-8")) if path.is_file() else [] for path in outputs]
        files = [rows for number, rows in enumerate(files) if number not in killed]
        wrong += sum(rows != files[0] for rows in files)
        repeated = int(stats(port)["repeated_answers"])
        doubled = max(0, repeated - CONCURRENCY * len(killed))
        lost = trial.episodes - len(files[0])
        note = f"{repeated} asked again of {CONCURRENCY * len(killed)} in flight"
        return Row(fault, tried, trial.episodes, lost, doubled, wrong, time.monotonic() - started, note)


def write_negatives(folder: Path, count: int) -> None:
    """Write negatives with texts of their own."""
    rows = []
    for number in range(count):
        turns = [("human", f"You are Ann, number {number}; persuade Bob."), ("gpt", f"Give me {number}!")]
        turns += [("human", "No."), ("gpt", f"Then {number + 1}, you fool.")]
        dialogue = [{"from": speaker, "value": text} for speaker, text in turns]
        about = {"episode": f"e{number}", "env": f"v{number}", "agents": ["ann", "bob"], "agent_position": 0}
        rows.append({"conversations": dialogue, **about, "goal": 3, "relationship": 1})
    folder.mkdir(exist_ok=True)
    (folder / "negative_data.json").write_text(json.dumps(rows), "utf-8")
