"""Processes that sample are killed outright, or stand still, or do not agree."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.run.runner import CLAIM_TTL_S
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store

from .trial import (
    KILLED,
    LONGEST_S,
    Process,
    Redis,
    Row,
    Trial,
    ends_well,
    judged,
    models_at,
    sampling,
    scored_by,
    shares,
    start,
    wait_for,
)


RESUMED_WITHIN_S = 15
"""After a dead process's claims have run out, all that it had in flight is taken up."""
UNEVEN = 2
"""No process that lives to the end has done more than so many times what another has."""
STOPPED_S = 1.5 * CLAIM_TTL_S
REFUSED = 2


class Sampling(NamedTuple):
    """Processes that sample into one Redis."""

    redis: Redis
    db: str
    command: list[str]
    processes: list[Process]


@contextmanager
def sampling_on_redis(trial: Trial) -> Iterator[Sampling]:
    """Start a Redis, a server of models, and the processes."""
    with ExitStack() as stack:
        redis = stack.enter_context(Redis(trial.folder).start())
        (port,) = free_ports()
        models_at(stack, trial.folder, port)
        db = f"redis://127.0.0.1:{redis.port}/0"
        command = sampling(trial, db, [port])
        processes = [start(trial, command) for _ in range(trial.processes)]
        stack.callback(lambda: [process.kill() for process in processes])
        yield Sampling(redis, db, command, processes)


def wait_for_share(trial: Trial, db: str) -> None:
    """Wait until about a quarter is stored."""
    wait_for(db, int(trial.episodes * random.uniform(0.15, 0.35)))


def run_sampling(fault: str, tried: int, trial: Trial, disturb: Callable[[Redis, list[Process]], list[int]]) -> Row:
    """Sample on one Redis, disturb it when about a quarter is stored, and count."""
    with sampling_on_redis(trial) as (redis, db, _, processes):
        started = time.monotonic()
        wait_for_share(trial, db)
        killed = disturb(redis, processes)
        wrong = ends_well(trial, processes, killed)
        return judged(fault, tried, trial, db, started, wrong, shares(trial))


def workers_killed(trial: Trial) -> Row:
    """Two processes are killed outright, one after the other; the others take up what they had in flight in time."""
    with sampling_on_redis(trial) as (_, db, _, processes):
        started = time.monotonic()
        wait_for_share(trial, db)
        killed = random.sample(range(len(processes)), KILLED)
        for number in killed:
            processes[number].kill()
            time.sleep(random.uniform(0, 3))
        taken_up_s = _taken_up_s(db, {processes[number].pid for number in killed})
        wrong = ends_well(trial, processes, killed) + (taken_up_s > CLAIM_TTL_S + RESUMED_WITHIN_S)
        wrong += max(scored := scored_by(trial), default=0) > UNEVEN * min(scored, default=0)
        note = f"{shares(trial)}; taken up after {taken_up_s:.0f} s"
        return judged("2 processes killed", KILLED, trial, db, started, wrong, note)


def _taken_up_s(db: str, dead: set[int]) -> float:
    """Return how long it takes until nobody waits for dead processes."""
    with open_store(db) as store:
        tags = store.counts().episodes
        begin = time.monotonic()
        while any(_pid(owner) in dead for tag in tags for owner in store.claimers(tag)):
            time.sleep(0.2)
        return time.monotonic() - begin


def _pid(owner: str) -> int:
    return int(owner.split(":")[1])


def workers_stopped(trial: Trial) -> Row:
    """Two processes stand still for longer than their claims hold, and go on with what is others' by then."""

    def disturb(_: Redis, processes: list[Process]) -> list[int]:
        chosen = random.sample(processes, KILLED)
        for process in chosen:
            process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        for process in chosen:
            process.send_signal(signal.SIGCONT)
        return []

    return run_sampling(f"2 processes stopped {STOPPED_S:.0f} s", KILLED, trial, disturb)


def settings_mixed(trial: Trial) -> Row:
    """Processes with two temperatures begin to fill one tag at once: those of one are refused before they store."""
    with sampling_on_redis(trial) as (_, db, command, processes):
        started = time.monotonic()
        warm = [start(trial, [*command, "--temperature", "0.9"]) for _ in processes]
        codes = [{process.wait(LONGEST_S) for process in group} for group in (processes, warm)]
        wrong = int(sorted(map(list, codes)) != [[0], [REFUSED]])
        with open_store(db) as store:
            wrong += len(_temperatures(store)) - 1
        return judged("two settings on one tag", 1, trial, db, started, wrong)


def _temperatures(store: Store) -> set[object]:
    return {episode.settings["temperature"] for episode in store.episodes()}


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
