"""Show how a run goes: a live bar on a terminal, plain lines elsewhere.

Comes in: how many items are done, and the usage so far. Goes out: text on stderr; stdout is for results.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sotopia_sdpo.llm.limits import SECONDS_PER_MINUTE
from sotopia_sdpo.llm.usage import Usage, amount


PLAIN_EVERY_S = 10.0
BAR_WIDTH = 10


class Progress:
    """Watches a run; use it in a `with`."""

    def __init__(self, total: int, unit: str, usage: Callable[[], Usage]) -> None:
        """Start at nothing of `total`; `unit` is what is counted, in the plural."""
        self.total = total
        self.unit = unit
        self.usage = usage
        self.started = time.monotonic()
        self._last_line = self.started
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self.total:
            # Here: it takes a third of a second, and only terminals need it.
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            # At 80 columns the text takes two lines: nothing of it is cut off.
            columns = BarColumn(BAR_WIDTH), TextColumn("{task.description}", table_column=Column(no_wrap=False))
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(self.line(0), total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, faults: str = "", total: int | None = None) -> None:
        """Show how many are done, what went wrong with some of them, and of how many, where that has changed."""
        self.total = self.total if total is None else total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, description=self.line(done, faults))
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_EVERY_S or done == self.total:
            self._last_line = now
            print(self.line(done, faults), file=sys.stderr, flush=True)

    def line(self, done: int, faults: str = "") -> str:
        """Return the counts, the rate, the time left, tokens and cost on one line."""
        passed_s = time.monotonic() - self.started
        rate = done / passed_s if passed_s > 0 else 0.0
        left = clock((self.total - done) / rate) if done else "?"
        counts = f"{done}/{self.total} {self.unit}{faults and f', {faults}'}"
        return f"{counts}, {rate * SECONDS_PER_MINUTE:.0f}/min, {left} left, {amount(self.usage())}"


def clock(seconds: float) -> str:
    """Return a duration as m:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, SECONDS_PER_MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
