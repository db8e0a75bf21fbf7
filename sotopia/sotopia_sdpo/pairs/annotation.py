"""How an annotator is asked, and what came out: results, failures by reason, tokens and money."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from sotopia_sdpo.errors import EXIT_BUDGET, EXIT_DONE, EXIT_INCOMPLETE
from sotopia_sdpo.llm.cache import Request
from sotopia_sdpo.llm.usage import Usage, money
from sotopia_sdpo.pairs.tally import Tally


T = TypeVar("T")
Item = TypeVar("Item")
NO_USABLE_ANSWER = "no usable answer"
NO_ANSWER = "no answer"
NOT_ASKED = "not asked: the budget is reached"
NOBODY_THERE = "not asked: the server stopped answering"
STOPPED = "not asked: stopped"
MOST_SHOWN_DETAILS = 5


@dataclass(frozen=True)
class AskOptions:
    """How an annotator is asked."""

    model: str
    concurrency: int = 15
    seed: int = 0
    budget: float | None = None
    """US dollars that this run may spend."""
    attempts: int = 8
    timeout_s: float = 180.0


class Failure(NamedTuple):
    """A question without an answer that can be used."""

    reason: str
    detail: str = ""
    request: Request | None = None
    """The question's first request, where the model did answer, but never usably."""


@dataclass
class Annotation(Generic[T]):
    """What came out."""

    results: list[T | Failure]
    paid: Usage = Usage()
    """Of the calls of this run."""
    kept: Usage = Usage()
    """Of the answers that were there already."""
    is_simulated: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_at_budget(self) -> bool:
        """Tell whether the budget ended the run."""
        return any(isinstance(result, Failure) and result.reason == NOT_ASKED for result in self.results)

    @property
    def exit_code(self) -> int:
        """Say how a script ends: at the budget, with some failures, or done."""
        if self.is_at_budget:
            return EXIT_BUDGET
        return EXIT_INCOMPLETE if any(isinstance(result, Failure) for result in self.results) else EXIT_DONE

    def answered(self, items: Sequence[Item]) -> list[tuple[Item, T]]:
        """Put the questions that were answered together with what they were about."""
        pairs = zip(items, self.results, strict=True)
        return [(item, result) for item, result in pairs if not isinstance(result, Failure)]

    def fall_back(self, answers: Sequence[T]) -> int:
        """Take these for the questions that got no usable answer, and say how many they were."""
        count = 0
        for index, (result, answer) in enumerate(zip(self.results, answers, strict=True)):
            if isinstance(result, Failure) and result.reason == NO_USABLE_ANSWER:
                self.results[index] = answer
                count += 1
        return count

    def count(self, tally: Tally) -> None:
        """Count every question as kept or dropped."""
        for result in self.results:
            if isinstance(result, Failure):
                tally.drop(result.reason)
            else:
                tally.keep()

    def lines(self) -> list[str]:
        """Write what it took, and what users should know."""
        before = (
            f"; {self.kept.calls:,} were there already (paid before: {amount(self.kept)})" if self.kept.calls else ""
        )
        details = [f"{r.reason}: {r.detail}" for r in self.results if isinstance(r, Failure) and r.detail]
        return [
            f"answers: {self.paid.calls:,} asked for now ({amount(self.paid)}){before}",
            *(f"  {text}" for text in list(dict.fromkeys(details))[:MOST_SHOWN_DETAILS]),
            *(f"note: {note}" for note in self.notes),
            *(
                ["note: answers of the scripted server are among these; they mean nothing"]
                if self.is_simulated
                else []
            ),
        ]


def amount(usage: Usage) -> str:
    """Write tokens and money."""
    return f"{usage.tokens:,} tokens, {money(usage.cost)}"
