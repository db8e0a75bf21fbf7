"""Ask a model all questions of a step, and account for every one of them.

Comes in: questions. Goes out: for each, in their order, what was read out of its answer or a Failure with the reason;
then the records, the tokens and the money. A Ctrl-C makes no more calls and waits for those in flight.
"""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from sotopia_sdpo.account import Missed, exit_code_of
from sotopia_sdpo.errors import EXIT_BUDGET, EXIT_DONE, EXIT_INCOMPLETE, UserError
from sotopia_sdpo.llm.ask import Asker, Question, Unusable
from sotopia_sdpo.llm.backends import CallError
from sotopia_sdpo.llm.budget import Budget
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.kept import KeptAnswers, Request
from sotopia_sdpo.llm.limits import QUESTIONS_IN_FLIGHT, Limits
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.llm.usage import Usage, amount
from sotopia_sdpo.pairs.calls import AT_BUDGET, Calls, NotCalled
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.run.flight import SERVER_GONE, Flight, run_loop, stop_on_signals
from sotopia_sdpo.run.progress import Progress
from sotopia_sdpo.step_files import write_json
from sotopia_sdpo.store import open_answers


T = TypeVar("T")
Asked = TypeVar("Asked")
"""What a question is about."""
NO_USABLE_ANSWER = "no usable answer"
NO_ANSWER = "no answer"
NOT_ASKED = "not asked: "
NOT_ASKED_AT_BUDGET = f"{NOT_ASKED}{AT_BUDGET}"
NOT_ASKED_SERVER_GONE = f"{NOT_ASKED}{SERVER_GONE}"
STOPPED = "stopped"
MOST_SHOWN_DETAILS = 5


@dataclass(frozen=True)
class AskOptions:
    """How an annotator is asked."""

    model: str
    limits: Limits = Limits(QUESTIONS_IN_FLIGHT)
    seed: int = 0
    budget: float | None = None
    """US dollars that this run may spend."""


class Failure(NamedTuple):
    """A question without an answer that can be used."""

    reason: str
    detail: str = ""
    request: Request | None = None
    """The question's first request, where the model did answer, but never usably."""


@dataclass
class Annotation(Generic[T]):
    """What came out of all questions of a step, and what it took."""

    results: list[T | Failure]
    paid: Usage = Usage()
    """Of the calls of this run."""
    kept: Usage = Usage()
    """Of the answers that were there already."""
    is_simulated: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[Failure]:
        """The questions without an answer."""
        return [result for result in self.results if isinstance(result, Failure)]

    @property
    def exit_code(self) -> int:
        """How a script ends: at the budget, with some failures, or done."""
        reasons = {failure.reason for failure in self.failures}
        return EXIT_BUDGET if NOT_ASKED_AT_BUDGET in reasons else EXIT_INCOMPLETE if reasons else EXIT_DONE

    def missed(self, unit: str) -> Missed:
        """Return how many questions are without an answer; `unit` is what they are about, in the plural."""
        reasons = Counter(failure.reason for failure in self.failures)
        most = next((reason for reason, _ in reasons.most_common(1)), "")
        is_stopped = NOT_ASKED_SERVER_GONE in reasons
        return Missed(len(self.failures), len(self.results), unit, most, is_stopped=is_stopped)

    def answered(self, about: Sequence[Asked]) -> list[tuple[Asked, T]]:
        """Return what the answered questions were about, each with what was read."""
        pairs = zip(about, self.results, strict=True)
        return [(one, result) for one, result in pairs if not isinstance(result, Failure)]

    def fall_back(self, substitutes: Sequence[T]) -> int:
        """Put these in the place of answers that could not be used, and return how many they were."""
        count = 0
        for index, (result, substitute) in enumerate(zip(self.results, substitutes, strict=True)):
            if isinstance(result, Failure) and result.reason == NO_USABLE_ANSWER:
                self.results[index] = substitute
                count += 1
        return count

    def count(self, tally: Tally) -> None:
        """Count every question as kept or dropped."""
        tally.keep(len(self.results) - len(self.failures))
        for failure in self.failures:
            tally.drop(failure.reason)

    def lines(self) -> list[str]:
        """Return what it took, and what users should know, as lines."""
        before = (
            f"; {self.kept.calls:,} were there already (paid before: {amount(self.kept)})" if self.kept.calls else ""
        )
        details = dict.fromkeys(f"{one.reason}: {one.detail}" for one in self.failures if one.detail)
        lines = [f"answers: {self.paid.calls:,} asked for now ({amount(self.paid)}){before}"]
        lines += [f"  {text}" for text in list(details)[:MOST_SHOWN_DETAILS]]
        lines += [f"note: {note}" for note in self.notes]
        if self.is_simulated:
            lines.append("note: answers of the scripted server are among these; they mean nothing")
        return lines


def annotate(
    questions: Sequence[Question[T]], options: AskOptions, folder: Path, unit: str, url: str = ""
) -> Annotation[T]:
    """Ask all questions.

    Args:
        questions: what is asked.
        options: how.
        folder: where the answers are kept.
        unit: what the questions are about, in the plural, for the progress.
        url: of the database; where it is a Redis, they are kept there.

    Raises:
        UserError: if the model cannot be asked at all.
        KeyboardInterrupt: when it was stopped; the answers so far are kept.
    """
    model = parse_model(options.model)
    with open_answers(folder, url) as cache:
        step = _Step(questions, model, options, cache)
        try:
            annotation = run_loop(step.run(unit))
            if step.is_stopped:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("stopped; every answer is kept: run the same command again to go on", file=sys.stderr)
            raise
        return annotation


def finish(
    annotation: Annotation[Any],
    tally: Tally,
    path: Path,
    records: Sequence[Any],
    folder: Path,
    url: str = "",
    later: Missed | None = None,
) -> int:
    """Write the records of the questions that were answered, account for the others, and return the exit code.

    Questions without a usable answer are given up for this run; the next one asks them afresh.

    Args:
        annotation: what came out of the questions.
        tally: gets their counts.
        path: where the records go.
        records: of the questions that were answered.
        folder: where the answers are kept.
        url: as in `annotate`.
        later: what was missed after a question was answered.

    Raises:
        UserError: if no record is left, unless the budget is reached: whoever goes on would read an earlier file.
    """
    annotation.count(tally)
    if records:
        write_json([(path, records)])
    if unusable := [failure.request for failure in annotation.failures if failure.request is not None]:
        with open_answers(folder, url) as cache:
            cache.give_up(unusable)
    print("\n".join([tally.line([path] if records else []), *annotation.lines()]))
    if not records and annotation.exit_code != EXIT_BUDGET:
        raise UserError(f"none is left: {tally.line()}; {path} is not written")
    missed = annotation.missed(tally.unit)
    if later and later.number:
        reason = max(missed, later).reason
        is_stopped = missed.is_stopped or later.is_stopped
        missed = missed._replace(number=missed.number + later.number, reason=reason, is_stopped=is_stopped)
    code = exit_code_of(missed)
    return annotation.exit_code or code


class _Step(Generic[T]):
    """All questions of a step, some of them in flight together."""

    def __init__(
        self, questions: Sequence[Question[T]], model: ModelSpec, options: AskOptions, cache: KeptAnswers
    ) -> None:
        self.questions = questions
        self.client = LLMClient(options.limits)
        self.flight = Flight(options.limits.concurrency)
        self.calls = Calls(model, self.client, cache, Budget(options.budget, model), self.flight)
        self.asker = Asker(model, options.seed, cache, self.calls.fetch)
        self.is_stopped = False
        self._left = deque(enumerate(questions))
        self._results: dict[int, T | Failure] = {}

    async def run(self, unit: str) -> Annotation[T]:
        """Ask them all and return what came, in their order."""
        stop_on_signals(first=self._stop)
        with Progress(len(self.questions), unit, lambda: self.calls.paid) as progress:

            async def one(numbered: tuple[int, Question[T]]) -> None:
                number, question = numbered
                self._results[number] = await self._ask(question)
                progress.update(len(self._results))

            async with self.client:
                keeper = asyncio.create_task(self.calls.keep())
                try:
                    await self.flight.run(self._next, one)
                finally:
                    keeper.cancel()
        results = [self._results[number] for number in range(len(self.questions))]
        return Annotation(results, self.calls.paid, self.calls.kept, self.calls.is_simulated, self.client.notes)

    async def _next(self) -> tuple[int, Question[T]] | None:
        """Return the next question with its number; also those that may not be asked may have a kept answer."""
        return self._left.popleft() if self._left else None

    async def _ask(self, question: Question[T]) -> T | Failure:
        """Return what is read out of an answer, or why there is none."""
        try:
            return await self.asker.ask(question)
        except Unusable as err:
            return Failure(NO_USABLE_ANSWER, str(err), err.first)
        except NotCalled as err:
            return Failure(f"{NOT_ASKED}{err}")
        except CallError as err:
            return Failure(NO_ANSWER, reason_of(err))

    def _stop(self) -> None:
        """Make no more calls, and wait for those in flight."""
        self.is_stopped = True
        self.flight.stop(STOPPED)
        print(f"\nstopping: {self.calls.in_flight} answers in flight; Ctrl-C again to quit now", file=sys.stderr)
