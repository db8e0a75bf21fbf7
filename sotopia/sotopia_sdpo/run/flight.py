"""Keep a number of items in flight until all are done: episodes and questions alike.

Comes in: what gives the next item, and what does one. There is no batch that waits for its slowest item. No more are
started once there is a reason to stop, such as a row of failures of a server that does not answer. SIGINT and SIGTERM
end a run in two steps; here is the only place that knows them.
"""

import asyncio
import atexit
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from sotopia_sdpo.errors import UserError


MOST_FAILURES_IN_A_ROW = 5
SERVER_GONE = "a server stopped answering"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CLOSE_S = 2.0

T = TypeVar("T")


class Flight:
    """What is in flight together, and whether more may start."""

    def __init__(self, size: int) -> None:
        """Take how many items may be in flight."""
        self.size = size
        self.stopped_because = ""
        """Why no more is started; empty while more is."""
        self._failures_in_a_row = 0

    async def run(self, take: Callable[[], Awaitable[T | None]], do: Callable[[T], Awaitable[None]]) -> None:
        """Do all that `take` gives until it gives None, each item as soon as there is room for it.

        Raises:
            UserError: the first one, after the others have been cancelled.
        """

        async def work() -> None:
            while (item := await take()) is not None:
                await do(item)
                # Where nothing had to be waited for, the others and the signals get their turn here.
                await asyncio.sleep(0)

        first: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.size):
                    group.create_task(work())
        except* UserError as errors:
            # Raised below: Python before 3.11.4 puts what is raised here into a group again.
            first = errors.exceptions[0]
        if first is not None:
            raise first from None

    def stop(self, reason: str) -> None:
        """Start no more; the first reason is kept."""
        self.stopped_because = self.stopped_because or reason

    def count(self, is_gone: bool) -> None:
        """Count something that has ended; too many in a row for want of a server stop the run."""
        self._failures_in_a_row = self._failures_in_a_row + 1 if is_gone else 0
        if self._failures_in_a_row >= max(MOST_FAILURES_IN_A_ROW, self.size):
            self.stop(SERVER_GONE)


@cache
def _process_runner() -> asyncio.Runner:
    """Return what holds the event loop of this process, which is closed at its end."""
    runner = asyncio.Runner()
    atexit.register(close, runner)
    return runner


def close(runner: asyncio.Runner) -> None:
    """Close an event loop; a task that will not be cancelled, as litellm's log may be, is left behind."""
    loop = runner.get_loop()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if not tasks or not loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_S))[1]:
        runner.close()


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the event loop of this process; libraries such as litellm keep queues of the first they see.

    Raises:
        KeyboardInterrupt: if a signal has cancelled it.
    """
    runner = _process_runner()
    before = {name: signal.getsignal(name) for name in SIGNALS}
    try:
        return runner.run(main)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for name, handler in before.items():
            if runner.get_loop().remove_signal_handler(name):
                signal.signal(name, handler)


def stop_on_signals(first: Callable[[], None] | None = None) -> None:
    """Make SIGINT and SIGTERM cancel the current task; the first time, call `first` instead.

    After the cancellation they do what they do in any process, so that a user is never stuck.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "there is a task to be cancelled"
    steps = [first] if first else []

    def received() -> None:
        if steps:
            steps.pop()()
            return
        for name in SIGNALS:
            loop.remove_signal_handler(name)
        task.cancel()

    for name in SIGNALS:
        loop.add_signal_handler(name, received)
