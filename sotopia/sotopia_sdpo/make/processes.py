"""Processes that end with what they start, whatever happens to the script that started them.

Each is in a session of its own, and carries a mark in its environment: what a script that was killed outright has left
behind is found by the mark and ended by the next one.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from sotopia_sdpo.errors import UserError


MARK = "SDPO_LOOP"
"""Variable with the run folder of the script that started a process."""
END_S = 20.0
"""Until a process that was asked to end is killed."""
POLL_S = 0.1
ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

Pick = Callable[[psutil.Process], bool]


class Group:
    """A process in a session of its own, and all that it starts."""

    def __init__(
        self, argv: Sequence[str], out: IO[bytes], err: IO[bytes], env: Mapping[str, str] | None = None
    ) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True
        )

    def code(self, wait_s: float = 0.0) -> int | None:
        """Return the exit code, 128 + N after signal N; None where it has not ended after so many seconds."""
        try:
            code = self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def end(self) -> None:
        """End it and all that it has started, by force after a while."""
        end_all(lambda process: os.getsid(process.pid) == self.process.pid)
        self.process.wait()


def end_all(pick: Pick) -> None:
    """End the processes that are picked, by force after a while."""
    for process in _living(pick):
        with suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + END_S
    while left := _living(pick):
        if time.monotonic() > deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
        time.sleep(POLL_S)


def _living(pick: Pick) -> list[psutil.Process]:
    """List the processes that are picked and have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and pick(process):
                found.append(process)
    return found


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Hold a run folder for this script alone; end what an earlier script, or this one, leaves running.

    Raises:
        UserError: if another script is at work there.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "script").open("a+") as script:
        try:
            fcntl.flock(script, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends, in whatever way
        except BlockingIOError:
            script.seek(0)
            raise UserError(
                f"{run}: process {script.read().strip()} is at work here; wait for it, or set another RUN"
            ) from None
        script.truncate(0)
        print(os.getpid(), file=script, flush=True)
        _end_marked(run)
        try:
            yield
        finally:
            _end_marked(run)


def _end_marked(run: Path) -> None:
    end_all(lambda process: process.environ().get(MARK) == str(run))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn signals into an orderly exit with code 128 + their number; ignored ones stay ignored."""

    def end(number: int, _: FrameType | None) -> None:
        for other in ENDING_SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second one must not leave half of it running
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
