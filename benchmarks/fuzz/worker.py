"""Read many cases of a target in a process of its own, which a case may end.

Comes in: a target and the numbers of its cases. Goes out: a Report. Invariant: every case is counted, also one that
kills the process or takes longer than CASE_S or more than CASE_MIB: it is a crash, and the next case goes on.
"""

import mmap
import multiprocessing
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import CASE_MIB, CASE_S
from .mutations import mutated
from .targets import TARGETS, Target


PAGE_BYTES = resource.getpagesize()
NOT_IN_FILES = Path("/dev/shm")  # the scratch file is written a million times


@dataclass
class Report:
    """What came of the cases so far."""

    cases: int = 0
    crashes: list[tuple[int, str]] = field(default_factory=list)
    """Numbers of cases, each with what happened."""
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds, and the case."""
    largest: tuple[int, int] = (0, 0)
    """By how many KiB the most that the process held grew in a case, and the case."""


def case_of(target: str, seed: int, number: int) -> Any:
    """Return a case by its number."""
    inputs, pieces, most, *_ = TARGETS[target]
    return mutated(f"{target} {seed} {number}", inputs, pieces, most)


def run_cases(target: str, seed: int, count: int) -> Iterator[Report]:
    """Run so many cases, and yield the report now and then."""
    report = Report()
    while report.cases < count:
        yield from _run_in_process(target, seed, count, report)


def _run_in_process(target: str, seed: int, count: int, report: Report) -> Iterator[Report]:
    """Run cases until they are done, or until one has ended the process."""
    at = mmap.mmap(-1, mmap.PAGESIZE)
    near, far = multiprocessing.Pipe(duplex=False)
    numbers = range(report.cases, count)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_work, args=(target, seed, numbers, at, far))
    process.start()
    far.close()
    try:
        while True:
            name, *values = near.recv()
            if name == "crash":
                report.crashes.append((values[0], values[1]))
            else:
                report.cases, slowest, largest = values
                report.slowest, report.largest = max(report.slowest, slowest), max(report.largest, largest)
            yield report
    except EOFError:
        process.join()
    if process.exitcode != 0:
        number = int.from_bytes(at[:8], "little")
        took = f"longer than {CASE_S:g} s" if process.exitcode == -signal.SIGALRM else f"exit code {process.exitcode}"
        report.crashes.append((number, took))
        report.cases = number + 1


def _work(target: str, seed: int, numbers: range, at: mmap.mmap, pipe: Connection) -> None:
    """Run cases, and tell of crashes at once and of everything else now and then."""
    # Not caught by Python, so that it ends a loop in C too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * PAGE_BYTES + (CASE_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    reader: Target[Any] = TARGETS[target]
    slowest, largest = (0.0, 0), (0, 0)
    with tempfile.TemporaryDirectory(dir=NOT_IN_FILES if NOT_IN_FILES.is_dir() else None) as folder:
        scratch, told, most = Path(folder) / "case", time.monotonic(), _most_kib()
        for number in numbers:
            at[:8] = number.to_bytes(8, "little")
            case = case_of(target, seed, number)
            signal.setitimer(signal.ITIMER_REAL, CASE_S)
            started = time.perf_counter()
            try:
                reader.read(case, scratch)
            except BaseException:
                pipe.send(("crash", number, traceback.format_exc(limit=-3)))
            slowest = max(slowest, (time.perf_counter() - started, number))
            if (now := _most_kib()) > most:
                largest, most = max(largest, (now - most, number)), now
            if time.monotonic() > told + 1:
                told = time.monotonic()
                pipe.send(("so far", number + 1, slowest, largest))
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(("so far", numbers.stop, slowest, largest))


def _most_kib() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
