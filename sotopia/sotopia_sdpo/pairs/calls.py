"""Get the answers to a step's requests: those that are kept, and calls for the others within a budget.

Comes in: requests, any number at a time. Goes out: their answers, each on disk before it is used. No call is paid
twice: equal requests make one call, also those of processes that run at once, which wait for each other's answers.
What cannot work at all (a wrong key, nobody there) is found with the first call, which is made alone.
"""

import asyncio
from collections import defaultdict
from contextlib import suppress

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.ask import MAX_TOKENS
from sotopia_sdpo.llm.backends import CallError, Transient
from sotopia_sdpo.llm.budget import Budget, BudgetReached
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.kept import KeptAnswers, Request
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.run.flight import SERVER_GONE, Flight
from sotopia_sdpo.text import whole_text


ATTEMPTS_OF_THE_FIRST_CALL = 2
RENEW_S = 2.0
"""Within a last call, so that a claim outlives a server that was away and a clock that was set."""
LOOK_AGAIN_S = 0.2
AT_BUDGET = "the budget is reached"


class NotCalled(Exception):
    """A call that is not made; the text says why."""


class Calls:
    """The answers to one model's requests, and what they took."""

    def __init__(
        self, model: ModelSpec, client: LLMClient, cache: KeptAnswers, budget: Budget, flight: Flight
    ) -> None:
        """Take who is asked, where answers are kept, and what ends the calls."""
        self.model = model
        self.client = client
        self.cache = cache
        self.budget = budget
        self.flight = flight
        self.paid = Usage()
        """Of the calls of this run."""
        self.kept = Usage()
        """Of the answers that were there already."""
        self.is_simulated = False
        self.in_flight = 0
        self._same: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._counted: set[str] = set()
        """Answers that are in `paid` or `kept`; equal requests share one."""
        self._first = asyncio.Lock()
        self._is_proven = False

    async def fetch(self, request: Request, sampling: Sampling) -> Answer:
        """Return the kept answer, or make the call and keep what comes.

        Raises:
            NotCalled: if no more calls are made.
            CallError: if the call failed for good.
            UserError: if no call can work.
        """
        async with self._same[request.key]:
            answer = await self.cache.aside(self.cache.get, request) or await self._elsewhere(request)
            if answer is None:
                try:
                    answer = await self._call(request, sampling)
                except asyncio.CancelledError:
                    self.cache.wait_no_more()
                    raise
                finally:
                    await self._release(request)
            elif request.key not in self._counted:
                self.kept = self.kept.plus(answer.usage)
            self._counted.add(request.key)
            self.is_simulated |= answer.is_simulated
            return answer

    async def keep(self) -> None:
        """Prolong the claims, for as long as it is not cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            # A place that is gone is told of by whoever wants an answer.
            with suppress(UserError):
                await self.cache.aside(self.cache.renew)

    async def _release(self, request: Request) -> None:
        """Give a claim back; one that cannot be given back runs out."""
        with suppress(UserError):
            await self.cache.aside(self.cache.release, request)

    async def _elsewhere(self, request: Request) -> Answer | None:
        """Claim a call; where another process has, wait for it, and return the answer that it got, if it got one.

        Raises:
            NotCalled: if no more calls are made.
        """
        while not await self.cache.aside(self.cache.claim, request):
            if self.flight.stopped_because:
                raise NotCalled(self.flight.stopped_because)
            await asyncio.sleep(LOOK_AGAIN_S)
        # The claim is free again since there is an answer by now, or the other process failed or is gone.
        if (answer := await self.cache.aside(self.cache.get, request)) is not None:
            await self._release(request)
        return answer

    async def _call(self, request: Request, sampling: Sampling) -> Answer:
        """Make one call, the first one alone."""
        if not self._is_proven:
            async with self._first:
                if not self._is_proven:
                    answer = await self._prove(request, sampling)
                    self._is_proven = True
                    if answer is not None:
                        return answer
        return await self._send(request, sampling)

    async def _prove(self, request: Request, sampling: Sampling) -> Answer | None:
        """Make the first call; where it fails, find out whether any can work."""
        try:
            return await self._send(request, sampling, ATTEMPTS_OF_THE_FIRST_CALL)
        except CallError:
            try:
                await self.client.probe([self.model])
            except UserError:
                # Those that wait for this one go on before the error has ended them.
                self.flight.stop(SERVER_GONE)
                raise
            return None

    async def _send(self, request: Request, sampling: Sampling, attempts: int | None = None) -> Answer:
        """Make a call within the budget, unless there is a reason to make no more."""
        try:
            async with self.budget.room_for(request.text, MAX_TOKENS) as most:
                if self.flight.stopped_because:
                    raise NotCalled(self.flight.stopped_because)
                return await self._paid(request, sampling, attempts, most)
        except BudgetReached as err:
            self.flight.stop(AT_BUDGET)
            raise NotCalled(self.flight.stopped_because) from err
        except Transient:
            # After all its attempts, so a row of these is a server that is gone, or hangs.
            self.flight.count(is_gone=True)
            raise

    async def _paid(self, request: Request, sampling: Sampling, attempts: int | None, most: float) -> Answer:
        """Make a call, which can cost `most`, and keep its answer before anything else is done with it."""
        self.in_flight += 1
        try:
            answer = await self.client.complete(self.model, request.messages, sampling, attempts=attempts)
        finally:
            self.in_flight -= 1
        kept = await self.cache.aside(self.cache.put, request, answer._replace(text=whole_text(answer.text)))
        self.flight.count(is_gone=False)
        self.budget.spend(answer.usage.cost, most)
        self.paid = self.paid.plus(answer.usage)
        return kept
