"""What a run prints: a line for each step, its beginning at once and what came of it behind.

Comes in: texts. Goes out: lines on standard output. Invariant: lines of steps that run at once are never mixed.
"""

from pathlib import Path

from sotopia_sdpo.make.live import Live
from sotopia_sdpo.make.steps import Step


def say(text: str, end: str = "\n") -> None:
    """Print to whoever waits, a pipe too."""
    print(f"{text}{end}", end="", flush=True)


class Line:
    """The line of a step: its beginning is shown at once, unless other steps run beside it."""

    def __init__(self, number: int, step: Step, is_at_once: bool) -> None:
        """Begin it."""
        self.head, self.is_at_once = f"{number:2}  {step.what:<34} ", is_at_once
        if not is_at_once:
            say(self.head, end="")

    def live(self, log: Path) -> Live | None:
        """Return what shows the last line of a log behind it; None where its place is not known."""
        return None if self.is_at_once else Live(self.head, log)

    def end(self, text: str) -> None:
        """End it."""
        say(f"{self.head}{text}" if self.is_at_once else text)
