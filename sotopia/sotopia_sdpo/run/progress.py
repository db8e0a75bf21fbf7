"""Show how a run goes: a live bar on a terminal, plain lines elsewhere.

Comes in: the counts after every episode, and the usage so far. Goes out: text on stderr; stdout is for results.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sotopia_sdpo.llm.usage import Usage, money
from sotopia_sdpo.run.runner import Outcome


PLAIN_EVERY_S = 10.0
SECONDS_PER_MINUTE = 60


class Progress:
    """Watches a run; use it in a `with`."""

    def __init__(self, total: int, usage: Callable[[], Usage]) -> None:
        """Start at nothing of `total` episodes."""
        self.total = total
        self.usage = usage
        self.started = time.monotonic()
        self._last_line = self.started
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self.total:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(self.line(Outcome(self.total)), total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, outcome: Outcome) -> None:
        """Show the counts."""
        if self._bar is not None:
            self._bar.update(self._task, completed=outcome.done, description=self.line(outcome))
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_EVERY_S or outcome.done == self.total:
            self._last_line = now
            print(self.line(outcome), file=sys.stderr, flush=True)

    def line(self, outcome: Outcome) -> str:
        """Write the counts, the rate, the time left, tokens and cost on one line."""
        passed_s = time.monotonic() - self.started
        rate = outcome.done / passed_s if passed_s > 0 else 0.0
        left = clock((self.total - outcome.done) / rate) if outcome.done else "?"
        usage = self.usage()
        return (
            f"{outcome.done}/{self.total} episodes, {outcome.failed} failed, {outcome.unscored} unscored, "
            f"{rate * SECONDS_PER_MINUTE:.0f}/min, {left} left, {usage.tokens:,} tokens, {money(usage.cost)}"
        )


def clock(seconds: float) -> str:
    """Write a duration as m:ss, or h:mm:ss."""
    minutes, rest = divmod(round(seconds), SECONDS_PER_MINUTE)
    hours, minutes = divmod(minutes, SECONDS_PER_MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
