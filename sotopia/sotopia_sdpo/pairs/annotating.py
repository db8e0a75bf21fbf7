"""Ask an annotator many questions at once, and account for every one of them.

Comes in: questions. Goes out: for each, in their order, what was read out of its answer or a Failure with the reason.
No call is paid twice: answers are kept as they come, a Ctrl-C waits for those that are on their way, and what cannot
work at all (a wrong key, nobody there) is found with the first call, before others are made.
"""

import asyncio
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.ask import MAX_TOKENS, Asker, Question, Unusable
from sotopia_sdpo.llm.backends import CallError, Transient
from sotopia_sdpo.llm.budget import Budget, BudgetReached
from sotopia_sdpo.llm.cache import ANSWERS_FILE, Answers, Request, Stored
from sotopia_sdpo.llm.client import LLMClient, Sampling, reason_of
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.llm.usage import money
from sotopia_sdpo.pairs.annotation import (
    NO_ANSWER,
    NO_USABLE_ANSWER,
    NOBODY_THERE,
    NOT_ASKED,
    STOPPED,
    Annotation,
    AskOptions,
    Failure,
    T,
)
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import write_json
from sotopia_sdpo.text import whole_text


ATTEMPTS_OF_THE_FIRST_CALL = 2
MOST_FAILURES_IN_A_ROW = 5
BAR_EVERY_S, LINE_EVERY_S = 0.1, 10.0
"""How often progress is shown on a terminal, and elsewhere."""


def annotate(questions: Sequence[Question[T]], options: AskOptions, folder: Path, what: str) -> Annotation[T]:
    """Ask all questions.

    Args:
        questions: what is asked.
        options: how.
        folder: where the answers are kept.
        what: what is counted on the progress bar.

    Raises:
        UserError: if the model cannot be asked at all.
        KeyboardInterrupt: when it was stopped; the answers so far are kept.
    """
    model = parse_model(options.model)
    with Answers(folder / ANSWERS_FILE) as answers:
        crowd = _Crowd(model, options, answers)
        try:
            annotation = asyncio.run(crowd.ask_all(questions, what))
        except asyncio.CancelledError:
            crowd.is_stopped = True
        if crowd.is_stopped:
            print("stopped; every answer is kept: run the same command again to go on", file=sys.stderr)
            raise KeyboardInterrupt
        return annotation


def finish(annotation: Annotation[Any], tally: Tally, path: Path, records: Sequence[Any], folder: Path) -> int:
    """Write the records of the questions that were answered, account for the others, and give the exit code.

    Questions without a usable answer are given up for this run; the next one asks them afresh.
    """
    annotation.count(tally)
    if records:
        write_json([(path, records)])
    if unusable := [r.request for r in annotation.results if isinstance(r, Failure) and r.request is not None]:
        with Answers(folder / ANSWERS_FILE) as answers:
            answers.give_up(unusable)
    print("\n".join([tally.line([path] if records else []), *annotation.lines()]))
    return annotation.exit_code


class _NotAsked(Exception):
    """A call that is not made; the text says why."""


class _Crowd:
    """All questions of a run, in flight together."""

    def __init__(self, model: ModelSpec, options: AskOptions, answers: Answers) -> None:
        self.model = model
        self.options = options
        self.answers = answers
        self.client = LLMClient(options.attempts, options.timeout_s)
        self.budget = Budget(options.budget, model)
        self.out: Annotation[Any] = Annotation([])
        self._asker = Asker(model, options.seed, answers, self._fetch)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._same: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._counted: set[str] = set()
        """Answers that are in `paid` or `kept`; equal questions share one."""
        self._first = asyncio.Lock()
        self._is_proven = False
        self._failures_in_a_row = 0
        self._in_flight = 0
        self._why_not = ""
        """Why no more calls are made; empty while they are."""
        self.is_stopped = False

    async def ask_all(self, questions: Sequence[Question[T]], what: str) -> Annotation[T]:
        """Ask them, watch the signals, and end the round of those that got no usable answer."""
        from tqdm import tqdm

        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stop, asyncio.current_task())
        interval = BAR_EVERY_S if sys.stderr.isatty() else LINE_EVERY_S
        try:
            async with self.client:
                with tqdm(total=len(questions), unit=f" {what}", mininterval=interval, dynamic_ncols=True) as bar:
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(self._one(question, bar)) for question in questions]
        except* UserError as errors:
            raise errors.exceptions[0] from None
        self.out.results = [task.result() for task in tasks]
        self.out.notes = self.client.notes
        return self.out

    async def _one(self, question: Question[T], bar: Any) -> T | Failure:
        """Ask one question and account for it."""
        try:
            return await self._asker.ask(question)
        except Unusable as err:
            return Failure(NO_USABLE_ANSWER, str(err), err.first)
        except _NotAsked as err:
            return Failure(str(err))
        except CallError as err:
            return Failure(NO_ANSWER, reason_of(err))
        finally:
            bar.set_postfix_str(f"{self.out.paid.tokens:,} tokens, {money(self.out.paid.cost)}", refresh=False)
            bar.update()

    async def _fetch(self, request: Request, sampling: Sampling) -> Stored:
        """Take a kept answer, or make the call and keep what comes; equal requests make one call."""
        async with self._same[request.key]:
            if (stored := self.answers.get(request)) is not None:
                if request.key not in self._counted:
                    self.out.kept = self.out.kept.plus(stored.usage)
            else:
                async with self._slots:
                    stored = await self._call(request, sampling)
            self._counted.add(request.key)
            self.out.is_simulated |= stored.is_simulated
            return stored

    async def _call(self, request: Request, sampling: Sampling) -> Stored:
        """Make one call, the first one alone."""
        if not self._is_proven:
            async with self._first:
                if not self._is_proven:
                    stored = await self._prove(request, sampling)
                    self._is_proven = True
                    if stored is not None:
                        return stored
        return await self._send(request, sampling, self.options.attempts)

    async def _prove(self, request: Request, sampling: Sampling) -> Stored | None:
        """Make the first call; where it fails, find out whether any can work.

        Raises:
            UserError: if none can.
        """
        try:
            return await self._send(request, sampling, ATTEMPTS_OF_THE_FIRST_CALL)
        except CallError:
            try:
                await self.client.probe([self.model])
            except UserError:
                # Those that wait for this one go on before the error has ended them.
                self._why_not = self._why_not or NOBODY_THERE
                raise
            return None

    async def _send(self, request: Request, sampling: Sampling, attempts: int) -> Stored:
        """Make a call within the budget, unless there is a reason to make no more."""
        try:
            async with self.budget.room_for(request.text, MAX_TOKENS):
                if self._why_not:
                    raise _NotAsked(self._why_not)
                return await self._paid(request, sampling, attempts)
        except BudgetReached as err:
            self._why_not = self._why_not or NOT_ASKED
            raise _NotAsked(self._why_not) from err
        except Transient:
            # After all its attempts, so a row of these is a server that is gone, or hangs.
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= max(MOST_FAILURES_IN_A_ROW, self.options.concurrency):
                self._why_not = self._why_not or NOBODY_THERE
            raise

    async def _paid(self, request: Request, sampling: Sampling, attempts: int) -> Stored:
        """Make a call and keep its answer, with nothing in between."""
        self._in_flight += 1
        try:
            reply = await self.client.complete(self.model, request.messages, sampling, attempts=attempts)
        finally:
            self._in_flight -= 1
        stored = Stored(whole_text(reply.text), reply.usage, self.model.name in self.client.simulated)
        self.answers.put(request, stored)
        self._failures_in_a_row = 0
        self.budget.spend(reply.usage.cost)
        self.out.paid = self.out.paid.plus(reply.usage)
        return stored

    def _stop(self, run: asyncio.Task[Any] | None) -> None:
        """Make no more calls, and wait for the answers that are on their way; the second time, for nothing."""
        if self.is_stopped and run is not None:
            run.cancel()
        self.is_stopped, self._why_not = True, STOPPED
        print(f"\nstopping; waiting for {self._in_flight} answers on their way, once more for none", file=sys.stderr)
