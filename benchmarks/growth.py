"""How throughput grows with the number of processes that sample into one Redis.

The same number of episodes of the demo world for every process is played against scripted servers, one for each two
processes, whose answers take a while; the clock runs from the first episode that is stored to the last, so that
imports do not count. Where the processes, the servers and Redis together ask for more than the machine's cores, the
curve bends; the table says how much of the cores each kind took.

    python benchmarks/growth.py                          # 1, 2, 4, 8, 16 processes
    python benchmarks/growth.py --processes 1 2 --episodes 200 --latency-ms 400

The load of the machine before each line is printed: a curve of a busy machine says nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from sotopia_sdpo.make.servers import Server, answers, free_ports
from sotopia_sdpo.store import open_store
from sotopia_sdpo.world.cast import require_world


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "sotopia" / "tests" / "process"))
from running import environment, redis_at  # noqa: E402 (the tests' own helpers)


PROCESSES_PER_SERVER = 2
LOOK_S = 0.1
LONGEST_S = 1800
WARM = 0.1
"""The share of the episodes after which the clock starts: by then all processes are at work."""


class Line(NamedTuple):
    """What so many processes did."""

    processes: int
    episodes: int
    seconds: float
    load: float
    """Of the machine in the minute before."""
    cpu: dict[str, float]
    """Seconds of CPU a second, by kind of process."""

    @property
    def rate(self) -> float:
        """Episodes a second."""
        return self.episodes / self.seconds


def cpu_of(pids: Sequence[int]) -> float:
    """Return how many seconds of CPU processes have taken, those that have ended not counted."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def measure(processes: int, episodes: int, batch_size: int, latency_ms: float) -> Line:
    """Let so many processes play so many episodes each."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (redis_port,) = free_ports()
        redis = stack.enter_context(redis_at(folder, redis_port, "--appendonly", "yes"))
        ports = free_ports(-(-processes // PROCESSES_PER_SERVER))
        servers = [stack.enter_context(models_at(folder, port, latency_ms)) for port in ports]
        db = f"redis://127.0.0.1:{redis_port}/0"
        store = stack.enter_context(open_store(db))
        require_world(store, is_demo=True)
        total = processes * episodes
        workers = []
        for number in range(processes):
            url = f"http://127.0.0.1:{ports[number % len(ports)]}/v1/"
            with (folder / f"out-{number}").open("wb") as out:
                argv = [sys.executable, "-m", "sotopia_sdpo", *sampling(url, db, total, batch_size)]
                env = environment(SDPO_HOME=name, CUSTOM_API_KEY="none", OMP_NUM_THREADS="1")
                workers.append(subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=env))
            stack.callback(workers[-1].kill)
        kinds = {
            "samplers": [worker.pid for worker in workers],
            "servers": [server.pid for server in servers],
            "redis": [redis.pid],
        }
        first = wait_for(store, round(total * WARM), workers)
        before, started = {kind: cpu_of(pids) for kind, pids in kinds.items()}, time.monotonic()
        last = wait_for(store, total - processes * batch_size // 2, workers)
        seconds = time.monotonic() - started
        cpu = {kind: (cpu_of(pids) - before[kind]) / seconds for kind, pids in kinds.items()}
        return Line(processes, last - first, seconds, load, cpu)


def models_at(folder: Path, port: int, latency_ms: float) -> Server:
    """Return a scripted server."""
    argv = (sys.executable, "-m", "sotopia_sdpo", "simulate", "--port", str(port), "--latency-ms", str(latency_ms))
    return Server(argv, log=folder / f"models-{port}.log", ready=answers(f"http://127.0.0.1:{port}/health"))


def sampling(url: str, db: str, total: int, batch_size: int) -> list[str]:
    """Return the arguments that play all episodes."""
    models = ["--models", f"custom/alpha@{url}", "--partner-model", f"custom/beta@{url}"]
    models += ["--evaluator-model", f"custom/judge@{url}", "--task", "neg", "--trials", str(total)]
    # The servers have other addresses, and are the same models.
    return [
        "benchmark",
        "--demo",
        *models,
        "--tag",
        "growth",
        "--limit",
        str(total),
        "--batch-size",
        str(batch_size),
        "--db",
        db,
    ]


def wait_for(store: object, count: int, workers: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait until so many episodes are stored, and return how many are."""
    end = time.monotonic() + LONGEST_S
    while (found := len(store.heads())) < count:  # type: ignore[attr-defined]
        if time.monotonic() > end or all(worker.poll() is not None for worker in workers):
            raise SystemExit(f"error: {found} of {count} episodes after {LONGEST_S} s, or all processes ended")
        time.sleep(LOOK_S)
    return found


def table(lines: Sequence[Line]) -> str:
    """Write the growth as a table."""
    one = lines[0]
    rows = [f"{'processes':>9}{'episodes/s':>12}{'ratio':>8}{'of linear':>11}{'load':>7}  CPU by kind, in cores"]
    for line in lines:
        ratio = line.rate / one.rate
        cpu = ", ".join(f"{kind} {seconds:.2f}" for kind, seconds in line.cpu.items())
        share = ratio * one.processes / line.processes
        rows.append(f"{line.processes:9d}{line.rate:12.2f}{ratio:8.2f}{share:11.0%}{line.load:7.1f}  {cpu}")
    return "\n".join(rows)


def main() -> None:
    """Measure each number of processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="(default: 1 2 4 8 16)")
    parser.add_argument("--episodes", type=int, default=100, help="of each process (default: 100)")
    parser.add_argument("--batch-size", type=int, default=4, help="episodes in flight in each (default: 4)")
    parser.add_argument("--latency-ms", type=float, default=400.0, help="of an answer (default: 400)")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {options.batch_size} in flight a process, {options.latency_ms:g} ms an answer")
    lines = []
    for processes in options.processes:
        lines.append(measure(processes, options.episodes, options.batch_size, options.latency_ms))
        print(table(lines).splitlines()[-1], flush=True)
    print(f"\n{table(lines)}")


if __name__ == "__main__":
    main()
