"""What ends a run: a row of failures, an error of the user's, a signal, another one."""

import asyncio
import os
import signal
from collections import deque
from contextlib import suppress

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.run import flight as flights
from sotopia_sdpo.run.flight import SERVER_GONE, SIGNALS, Flight, run_loop, stop_on_signals


@pytest.mark.parametrize(("size", "most"), [(1, 5), (5, 5), (8, 8)])
def test_failures_in_a_row_stop_it(size: int, most: int) -> None:
    flight = Flight(size)
    for _ in range(most - 1):
        flight.count(is_gone=True)
    flight.count(is_gone=False)
    for _ in range(most - 1):
        flight.count(is_gone=True)
    assert not flight.stopped_because
    flight.count(is_gone=True)
    flight.stop("a later reason")
    assert flight.stopped_because == SERVER_GONE


def test_an_error_of_the_users_ends_all_and_is_alone() -> None:
    left, ended = deque(range(9)), []

    async def take() -> int | None:
        return left.popleft() if left else None

    async def do(number: int) -> None:
        try:
            await asyncio.sleep(60 if number != 2 else 0.01)
        finally:
            ended.append(number)
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="^the disk is full$"):
        run_loop(Flight(3).run(take, do))
    assert sorted(ended) == [0, 1, 2] and len(left) == 6


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("waits", [False, True])
def test_signals_stop_then_cancel_then_are_anybodys(name: signal.Signals, waits: bool) -> None:
    before = signal.getsignal(name)
    told: list[str] = []

    async def work() -> None:
        stop_on_signals(first=(lambda: told.append("first")) if waits else None)
        try:
            for _ in range(1 + waits):
                os.kill(os.getpid(), name)
                await asyncio.sleep(0.05)
        finally:
            told.append("cancelled")
            assert signal.getsignal(name) == before

    with pytest.raises(KeyboardInterrupt):
        run_loop(work())
    assert told == [*(["first"] if waits else []), "cancelled"] and signal.getsignal(name) == before


def test_one_loop_for_the_probe_and_the_run() -> None:
    """What a library keeps of the first loop, such as a queue that somebody waits at, serves the second run too."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    got: list[int] = []

    async def serve() -> None:
        while True:
            got.append(await queue.get())

    async def first() -> asyncio.Task[None]:
        task = asyncio.create_task(serve())
        await asyncio.sleep(0)
        return task

    async def second() -> None:
        queue.put_nowait(1)
        await asyncio.sleep(0)
        server.cancel()

    server = run_loop(first())
    run_loop(second())
    assert got == [1]


def test_signals_are_as_before_after_a_run() -> None:
    async def work() -> None:
        stop_on_signals()

    before = [signal.getsignal(name) for name in SIGNALS]
    run_loop(work())
    assert [signal.getsignal(name) for name in SIGNALS] == before


def test_a_task_that_will_not_be_cancelled_does_not_hold_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "CLOSE_S", 0.05)
    runner, let_go = asyncio.Runner(), False

    async def stubborn() -> None:
        while not let_go:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)

    async def main() -> "asyncio.Task[None]":
        return asyncio.create_task(stubborn())

    task = runner.run(main())
    flights.close(runner)
    assert not task.done() and not runner.get_loop().is_closed()
    let_go = True
    flights.close(runner)
    assert task.done()
