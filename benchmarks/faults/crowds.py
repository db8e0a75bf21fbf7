"""Many small faults to many small workers: kills, sleeps beyond the lease, cut connections, locked files.

Comes in: how often a fault is to happen, and how many items are stored meanwhile. Goes out: what is stored, against
what the workers were told. Lost is an item that is not there; doubled one that two workers were told is theirs, or
that is stored twice; wrong one that holds another worker's text, or a worker that did not end well.
"""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import redis

from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.store import open_answers, open_store

from .claimant import request_of
from .cutting import CuttingProxy
from .trial import LONGEST_S, Process, Redis, Row, Trial, environment


WORKERS = 3
LEASE_S = 1.0
STOPS_WITHIN_S = 0.05
LONGEST_SAID = 300
Disturb = Callable[["Crowd"], None]


class Crowd:
    """Workers on one database, of which always as many live as there should be."""

    def __init__(self, trial: Trial, kind: str, url: str, count: int) -> None:
        """Take what they store, where, and how many items there are."""
        self.trial, self.kind, self.url, self.count = trial, kind, url, count
        self.started: list[Process] = []
        self.killed: set[int] = set()
        self.events = 0
        self.sqlite_path = trial.folder / "crowd.db"

    def fill(self) -> None:
        """Start workers in the place of those that are gone, while there is work."""
        while sum(process.poll() is None for process in self.started) < WORKERS and not self.is_done:
            number = len(self.started)
            with self.said(number).open("wb") as out:
                argv = [sys.executable, str(Path(__file__).with_name("claimant.py")), self.kind, self.url]
                argv += [str(self.trial.folder / f"host-{number}"), str(self.count), str(LEASE_S)]
                self.started.append(subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=environment()))

    @property
    def is_done(self) -> bool:
        """Whether a worker has found everything stored."""
        return any(process.poll() == 0 for process in self.started)

    def victim(self) -> tuple[int, Process] | None:
        """Return one that lives."""
        living = [(number, process) for number, process in enumerate(self.started) if process.poll() is None]
        return random.choice(living) if living else None

    def said(self, number: int) -> Path:
        """Return where a worker's output goes."""
        return self.trial.folder / f"crowd-{number}"

    def row(self, fault: str, started: float, direct: str) -> Row:
        """Count, by what is stored under the address without faults."""
        wrong = 0
        for number, process in enumerate(self.started):
            if process.wait(LONGEST_S) != 0 and number not in self.killed:
                wrong += 1
                said = self.said(number).read_text("utf-8")[-LONGEST_SAID:]
                print(f"worker {number} ended with {process.returncode}: {said}", flush=True)
        owners: dict[int, set[str]] = defaultdict(set)
        for number in range(len(self.started)):
            for line in self.said(number).read_text("utf-8").splitlines():
                word, *values = line.split()
                if word == "saved" and len(values) == 2:
                    owners[int(values[0])].add(values[1])
        stored = self.stored(direct)
        lost = sum(not stored.get(number) for number in range(self.count))
        doubled = sum(len(texts) > 1 for texts in stored.values()) + sum(len(names) > 1 for names in owners.values())
        # A worker that was killed between the writing and the telling has told nothing.
        wrong += sum(bool(names) and not any(name in text for name in names for text in stored.get(number, ()))
                     for number, names in owners.items())  # fmt: skip
        told = f"{len(owners)} told of, {len(self.started)} workers"
        return Row(fault, self.events, self.count, lost, doubled, wrong, time.monotonic() - started, told)

    def stored(self, url: str) -> dict[int, list[str]]:
        """Read the texts of all items."""
        found: dict[int, list[str]] = defaultdict(list)
        if self.kind == "episodes":
            with open_store(url) as store:
                store.check_whole()
                for episode in store.episodes():
                    found[int(episode.environment.removeprefix("env"))].append(episode.messages[1][0][2])
            return found
        with open_answers(self.trial.folder / "none", url) as kept:
            for number in range(self.count):
                if answer := kept.get(request_of(number)):
                    found[number].append(answer.text)
        return found


def run_crowd(fault: str, trial: Trial, crowd: Crowd, disturb: Disturb, direct: str) -> Row:
    """Disturb a crowd until it has happened often enough and all is stored."""
    started = time.monotonic()
    try:
        while not crowd.is_done:
            crowd.fill()
            if crowd.events < trial.events:
                disturb(crowd)
            else:
                time.sleep(0.05)
        return crowd.row(fault, started, direct)
    finally:
        for process in crowd.started:
            with suppress(OSError):
                process.send_signal(signal.SIGCONT)
                process.kill()


def kill(crowd: Crowd) -> None:
    """Kill one outright, once it has begun."""
    time.sleep(random.uniform(0, 0.5))
    found = crowd.victim()
    if found and crowd.said(found[0]).stat().st_size:
        crowd.killed.add(found[0])
        found[1].kill()
        found[1].wait()
        crowd.events += 1


def sleep_too_long(crowd: Crowd) -> None:
    """Stop one that holds a claim for longer than the claim lives; it comes back late and goes on with it."""
    time.sleep(random.uniform(0, 0.2))
    if found := crowd.victim():
        number, process = found
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPS_WITHIN_S)
        lines = crowd.said(number).read_text("utf-8").splitlines()
        if lines and lines[-1].startswith("claimed"):
            time.sleep(LEASE_S * random.uniform(1.3, 1.6))
            crowd.events += 1
        process.send_signal(signal.SIGCONT)


def close_clients(crowd: Crowd) -> None:
    """Have the Redis close all connections; a worker that has not begun would take it for one that is not there."""
    time.sleep(random.uniform(0, 0.05))
    if not all(crowd.said(number).stat().st_size for number in range(len(crowd.started))):
        return
    client = redis.Redis.from_url(crowd.url)
    crowd.events += sum(
        client.client_kill_filter(_id=one["id"])
        for one in client.client_list()
        if int(one["id"]) != client.client_id()
    )


def lock_the_file(crowd: Crowd) -> None:
    """Hold the SQLite file for a while."""
    with suppress(sqlite3.OperationalError):
        connection = sqlite3.connect(crowd.sqlite_path, timeout=1, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(random.uniform(0, 0.2))
        connection.execute("ROLLBACK")
        connection.close()
        crowd.events += 1
    time.sleep(random.uniform(0, 0.1))


def on_redis(fault: str, trial: Trial, kind: str, disturb: Disturb, per_event: int) -> Row:
    """Have a crowd on a Redis disturbed."""
    with Redis(trial.folder).start() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        return run_crowd(fault, trial, Crowd(trial, kind, url, per_event * trial.events), disturb, url)


def on_sqlite(fault: str, trial: Trial, disturb: Disturb, per_event: int) -> Row:
    """Have a crowd on an SQLite file disturbed."""
    url = f"sqlite:///{trial.folder}/crowd.db"
    return run_crowd(fault, trial, Crowd(trial, "episodes", url, per_event * trial.events), disturb, url)


def on_cut_connections(fault: str, trial: Trial, kind: str, per_event: int) -> Row:
    """Have a crowd talk to a Redis through what cuts connections at drawn bytes."""
    (port,) = free_ports()
    with Redis(trial.folder).start() as server, CuttingProxy(port, server.port, trial.events) as proxy:
        crowd = Crowd(trial, kind, f"redis://127.0.0.1:{port}/0", per_event * trial.events)

        def look(crowd: Crowd) -> None:
            crowd.events = proxy.cuts
            time.sleep(0.05)

        return run_crowd(fault, trial, crowd, look, f"redis://127.0.0.1:{server.port}/0")
