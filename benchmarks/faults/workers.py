"""Processes that sample are killed outright."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack

from sotopia_sdpo.make.servers import free_ports

from .trial import KILLED, Process, Redis, Row, Trial, ends_well, judged, models_at, sampling, shares, start, wait_for


def run_sampling(fault: str, tried: int, trial: Trial, disturb: Callable[[Redis, list[Process]], list[int]]) -> Row:
    """Sample on one Redis, disturb it when about a quarter is stored, and count."""
    with ExitStack() as stack:
        redis = Redis(trial.folder).start()
        stack.callback(redis.end)
        (port,) = free_ports()
        models_at(stack, trial.folder, port)
        db = f"redis://127.0.0.1:{redis.port}/0"
        command = sampling(trial, db, [port])
        started = time.monotonic()
        processes = [start(trial, command) for _ in range(trial.processes)]
        stack.callback(lambda: [process.kill() for process in processes])
        wait_for(db, int(trial.episodes * random.uniform(0.15, 0.35)))
        killed = disturb(redis, processes)
        wrong = ends_well(trial, processes, killed)
        return judged(fault, tried, trial, db, started, wrong, shares(trial))


def workers_killed(trial: Trial) -> Row:
    """Two processes are killed outright, one after the other."""

    def disturb(_: Redis, processes: list[Process]) -> list[int]:
        killed = random.sample(range(len(processes)), KILLED)
        for number in killed:
            processes[number].kill()
            time.sleep(random.uniform(0, 3))
        return killed

    return run_sampling("2 processes killed", KILLED, trial, disturb)


def sqlite_killed(trial: Trial) -> Row:
    """Two of the processes on one SQLite file are killed outright."""
    with ExitStack() as stack:
        (port,) = free_ports()
        models_at(stack, trial.folder, port)
        db = f"sqlite:///{trial.folder}/sotopia.db"
        command = sampling(trial, db, [port])
        started = time.monotonic()
        processes = [start(trial, command) for _ in range(trial.processes)]
        stack.callback(lambda: [process.kill() for process in processes])
        wait_for(db, trial.episodes // 5)
        killed = random.sample(range(trial.processes), min(KILLED, trial.processes - 1))
        for number in killed:
            processes[number].kill()
        wrong = ends_well(trial, processes, killed)
        return judged("SQLite, 2 processes killed", len(killed), trial, db, started, wrong, shares(trial))
