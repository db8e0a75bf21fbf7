"""What the faults have in common: servers, processes that sample, and how what is stored is counted."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import redis

from sotopia_sdpo.make.servers import Server, answers, free_ports
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.transfer import import_sources
from sotopia_sdpo.world.cast import require_world


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sotopia" / "tests" / "process"))
from running import environment, redis_at  # noqa: E402 (the tests' own helpers)


PUBLISHED = ROOT.parent / "shared" / "data" / "sotopia"
PROFILES = ("environment_profiles", "agent_profiles", "relationship_profiles", "env_agent_combo_storages")
KEPT_ON_DISK = ("--appendonly", "yes")
LATENCY = ("--latency-ms", "60", "--exponential")
LONGEST_S = 600
KILLED = 2
CONCURRENCY = 4
"""Episodes, or questions, in flight in each process."""
Process = subprocess.Popen[bytes]


class Row(NamedTuple):
    """What came of one fault."""

    fault: str
    tried: int
    """How often it happened."""
    items: int
    """Episodes, questions or answers that were counted afterwards."""
    lost: int
    doubled: int
    wrong: int
    seconds: float
    note: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.wrong)


class Trial(NamedTuple):
    """Where one fault is tried, and how large it is."""

    folder: Path
    episodes: int
    processes: int
    gone_s: float
    events: int
    """How often a fault that is cheap happens."""


class Redis:
    """A server that can be taken away and brought back."""

    def __init__(self, folder: Path) -> None:
        """Take a folder for its data."""
        self.folder = folder
        (self.port,) = free_ports()
        self._server = redis_at(folder, self.port, *KEPT_ON_DISK)

    def start(self) -> "Redis":
        """Start it, with what it has kept."""
        self._server.start()
        return self

    @property
    def client(self) -> "redis.Redis[bytes]":
        """Return a client that is not ours."""
        return redis.Redis(port=self.port)

    def signal(self, number: int) -> None:
        """Signal it."""
        os.kill(self._server.pid, number)

    def end(self) -> None:
        """End it."""
        self._server.end()

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def models_at(stack: ExitStack, folder: Path, port: int, *more: str) -> Server:
    """Run a scripted server of models on a port, with options instead of the usual latency."""
    argv = (sys.executable, "-m", "sotopia_sdpo", "simulate", "--port", str(port), *(more or LATENCY))
    url = f"http://127.0.0.1:{port}/health"
    server = Server(argv, log=folder / f"models-{port}.log", ready=answers(url), env=environment())
    stack.callback(server.end)
    return server.start()


def start(trial: Trial, argv: Sequence[str]) -> Process:
    """Start a command, whose output goes to a file."""
    number = len(list(trial.folder.glob("out-*")))
    with (trial.folder / f"out-{number}").open("wb") as out:
        env = environment(SDPO_HOME=str(trial.folder), CUSTOM_API_KEY="none")
        return subprocess.Popen([sys.executable, *argv], stdout=out, stderr=subprocess.STDOUT, env=env)


def fill(db: str) -> str:
    """Write a world into a database and return the task whose combos are played."""
    with open_store(db) as store:
        if PUBLISHED.is_dir():
            import_sources(store, [str(PUBLISHED / f"{name}.jsonl") for name in PROFILES])
            return "all"
        require_world(store, is_demo=True)
        return "neg"


def sampling(trial: Trial, db: str, ports: Sequence[int]) -> list[str]:
    """Return the command that samples a trial's episodes."""
    task = fill(db)
    urls = ",".join(f"http://127.0.0.1:{port}/v1" for port in ports)
    models = ["--models", f"custom/alpha@{urls}", "--partner-model", f"custom/beta@{urls}"]
    models += ["--evaluator-model", f"custom/judge@{urls}"]
    options = ["--task", task, "--tag", "faults", "--limit", str(trial.episodes), "--batch-size", str(CONCURRENCY)]
    demo = ["--demo"] if task == "neg" else []
    return ["-m", "sotopia_sdpo", "benchmark", *models, *options, "--db", db, *demo]


def number_stored(db: str) -> int:
    """Count the episodes."""
    with open_store(db) as store:
        return len(store.heads())


def wait_for(db: str, count: int) -> None:
    """Wait until so many episodes are stored."""
    end = time.monotonic() + LONGEST_S
    while number_stored(db) < count and time.monotonic() < end:
        time.sleep(0.2)


def ends_well(trial: Trial, processes: Sequence[Process], killed: Sequence[int] = (), before: int = 0) -> int:
    """Wait for processes, and count those that did not end well, but for the killed ones; say what they said last.

    Args:
        trial: where they run.
        processes: all that were started, after so many others.
        killed: their numbers.
        before: how many were started earlier.
    """
    wrong = 0
    for number, process in enumerate(processes):
        if process.wait(LONGEST_S) != 0 and number not in killed:
            wrong += 1
            said = (trial.folder / f"out-{before + number}").read_text("utf-8", "replace").strip().splitlines()
            print(
                f"process {number} ended with {process.returncode}: {said[-1] if said else 'nothing said'}", flush=True
            )
    return wrong


def judged(fault: str, tried: int, trial: Trial, db: str, started: float, wrong: int, note: str = "") -> Row:
    """Count what is stored."""
    with open_store(db) as store:
        store.check_whole()
        found = list(store.episodes())
    keys = Counter(episode.key for episode in found)
    broken = sum(episode.status != "scored" or len(episode.rewards) != 2 for episode in found)
    lost, doubled = trial.episodes - len(keys), len(found) - len(keys)
    return Row(fault, tried, trial.episodes, lost, doubled, wrong + broken, time.monotonic() - started, note)


def scored_by(trial: Trial) -> list[int]:
    """Return how many episodes each process has scored, by its own words."""
    lines = [line for path in sorted(trial.folder.glob("out-*")) for line in path.read_text("utf-8").splitlines()]
    return [int(line.split()[0]) for line in lines if " episodes scored, " in line]


def shares(trial: Trial) -> str:
    """Return the same as text."""
    return f"by process {' '.join(map(str, scored_by(trial)))}"


def stats(port: int) -> dict[str, float]:
    """Read the counters of a scripted server."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as response:
        found: dict[str, float] = json.load(response)
        return found
