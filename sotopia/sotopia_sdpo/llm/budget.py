"""Keep what is spent under a limit: a call starts only if it cannot exceed it.

Comes in: a limit in US dollars, and for every call the most it can cost, then what it did cost. Invariant: what is
spent, and what the calls in flight can cost at most, never exceed the limit together.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import cost_of


class BudgetReached(Exception):
    """The next call might exceed the limit."""


class Budget:
    """What may be spent, is in flight, and has been spent."""

    def __init__(self, limit: float | None, model: ModelSpec) -> None:
        """Take the limit, None for none.

        Raises:
            UserError: if there is a limit, but no price is known.
        """
        self.limit = limit
        self.model = model
        self.spent = 0.0
        self._held: list[float] = []
        """The most that each call in flight can cost."""
        self._changed = asyncio.Condition()
        if limit is not None and (model.is_custom or cost_of(model.api_name, 1, 1) is None):
            raise UserError(
                f"--budget {limit:g}: no price is known for {model.name}; leave it out (--limit bounds the records)"
            )

    @asynccontextmanager
    async def room_for(self, request: str, max_tokens: int) -> AsyncIterator[float]:
        """Reserve, and yield, what a call can cost at most; wait where calls in flight may yet turn out cheaper.

        Args:
            request: all that is sent, as one text.
            max_tokens: of the answer.

        Raises:
            BudgetReached: if the call does not fit even with nothing else in flight.
        """
        if self.limit is None:
            yield 0.0
            return
        # No tokenizer makes more tokens of a text than it has bytes.
        most = len(request.encode("utf-8", "replace"))
        bound = cost_of(self.model.api_name, most, max_tokens) or 0.0
        async with self._changed:
            while self.spent + sum(self._held) + bound > self.limit:
                if not self._held:
                    raise BudgetReached
                await self._changed.wait()
            self._held.append(bound)
        try:
            yield bound
        finally:
            async with self._changed:
                self._held.remove(bound)
                self._changed.notify_all()

    def spend(self, cost: float | None, most: float = 0.0) -> None:
        """Count what a call did cost, or where that is not known, the most that it can have cost."""
        self.spent += most if cost is None else cost
