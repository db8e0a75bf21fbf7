"""Run branches of a run at the same time; the first that fails stops the others.

Comes in: what each branch does. Goes out: what each returns, in their order. Invariant: none is at work any more when
that is returned, or raised.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar


class Stopped(Exception):
    """A branch is left, since another one has failed or a signal has come."""


class Gate:
    """Open as long as branches may go on."""

    def __init__(self) -> None:
        """Open it."""
        self._is_closed = threading.Event()

    def close(self) -> None:
        """Have all branches leave, each at its next look."""
        self._is_closed.set()

    def check(self) -> None:
        """Look whether it is open.

        Raises:
            Stopped: if it is not.
        """
        if self._is_closed.is_set():
            raise Stopped


T = TypeVar("T")


def run_at_once(branches: Sequence[Callable[[Gate], T]], at_once: int) -> list[T]:
    """Run branches, so many at a time.

    Args:
        branches: each looks at the gate again and again.
        at_once: how many.

    Raises:
        BaseException: of the branch that failed first, or of a signal.
    """
    gate = Gate()

    def run(branch: Callable[[Gate], T]) -> T:
        gate.check()
        try:
            return branch(gate)
        except BaseException:
            gate.close()  # here, before this thread takes the next branch
            raise

    with ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(run, branch) for branch in branches]
        try:
            for one in as_completed(running):
                if not isinstance(one.exception(), Stopped):
                    one.result()
        except BaseException:
            gate.close()  # a signal; and the pool waits for them
            raise
    return [one.result() for one in running]
