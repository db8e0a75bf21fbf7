"""Count what a step keeps and what it drops, by reason, so that the numbers add up to what came in."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.step_files import write_json


T = TypeVar("T")


class Tally:
    """The counts of one step."""

    def __init__(self, unit: str) -> None:
        """Start at nothing; `unit` is what is counted, in the plural."""
        self.unit = unit
        self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        """What else is counted, by what is said of it."""

    def keep(self, count: int = 1) -> None:
        """Count what is kept."""
        self.kept += count

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what is dropped."""
        if count:
            self.dropped[reason] += count

    def reject(self, reason: str) -> None:
        """Count as dropped what is also counted as kept, before or after this."""
        self.kept -= 1
        self.dropped[reason] += 1

    def note(self, text: str) -> None:
        """Count something that users should know of, beside what is kept and dropped."""
        self.notes[text] += 1

    def note_lines(self) -> list[str]:
        """Return a line for each of them."""
        return [f"note: {count} {text}" for text, count in self.notes.items()]

    def only(self, items: Iterable[T], fits: Callable[[T], bool], reason: str) -> Iterator[T]:
        """Pass on the items that fit, and count the others as dropped."""
        for item in items:
            if fits(item):
                yield item
            else:
                self.drop(reason)

    @property
    def total(self) -> int:
        """All that came in."""
        return self.kept + self.dropped.total()

    def line(self, paths: Sequence[Path] | None = None) -> str:
        """Sum up on one line: kept, dropped by reason, and the files written, if any are given."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        left = f" ({reasons})" if reasons else ""
        written = "" if paths is None else f" -> {', '.join(map(str, paths)) or 'nothing written'}"
        return f"kept {self.kept} of {self.total} {self.unit}{left}{written}"


def write_kept(tally: Tally, what: str, files: Sequence[tuple[Path, list[Any]]], remedy: str = "") -> None:
    """Write what a step kept, and print the line.

    Args:
        tally: the counts of the step.
        what: the name of one of the things that it keeps.
        files: the paths and their records.
        remedy: what helps if there is none.

    Raises:
        UserError: if nothing was kept; then nothing is written.
    """
    if not tally.kept:
        raise UserError(f"no {what} is left: {tally.line()}{remedy}")
    write_json(files)
    print("\n".join([tally.line([path for path, _ in files]), *tally.note_lines()]))


def mean(values: Sequence[float]) -> str:
    """Write a mean, or `-` if there are no values."""
    return f"{sum(values) / len(values):.2f}" if values else "-"
