"""Keep a number of episodes in flight until all are done, across any number of processes.

Comes in: work items and what runs one of them. Goes out: an Outcome with counts and reasons. There is no batch that
waits for its slowest episode. Every episode is claimed in the store before it is run and stored in one step with the
release of its claim, so that none is run twice or lost; what another process has claimed is looked at again until
it is done there, or its claim has run out.
"""

import asyncio
import os
import socket
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.backends import Unreachable
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey


CLAIM_TTL_S = 12.0
"""How long the episodes of a killed process stay out of reach for others."""
RENEW_S = 3.0
LOOK_AGAIN_S = 1.0
IDLE_S = 0.1
UNREACHABLE = Unreachable.__name__
"""What the reason of an episode holds when a server was not there."""
MOST_FAILURES_IN_A_ROW = 5


class Item(Protocol):
    """A piece of work: a WorkItem, or an episode to be judged again."""

    @property
    def key(self) -> EpisodeKey:
        """The key under which its episode is stored."""

    def with_stored(self, head: EpisodeHead | None) -> Self:
        """Say what is stored under the key by now."""


class Watcher(Protocol):
    """Is told how it goes."""

    def update(self, outcome: "Outcome") -> None:
        """Look at the counts after every episode."""


@dataclass
class Outcome:
    """How a run went so far."""

    total: int
    scored: int = 0
    unscored: int = 0
    failed: int = 0
    elsewhere: int = 0
    """Done by another process meanwhile."""
    reasons: Counter[str] = field(default_factory=Counter)
    is_stopped: str = ""
    """Why the rest was not started; empty if everything was."""

    @property
    def done(self) -> int:
        """Count what is over, however it went."""
        return self.scored + self.unscored + self.failed + self.elsewhere

    @property
    def is_complete(self) -> bool:
        """Tell whether every episode has its scores."""
        return self.scored + self.elsewhere == self.total

    def add(self, episode: Episode) -> None:
        """Count one episode."""
        if episode.status == "scored":
            self.scored += 1
            return
        self.reasons[episode.failure] += 1
        if episode.status == "unscored":
            self.unscored += 1
        else:
            self.failed += 1


def new_owner() -> str:
    """Name this process among all that share a store."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Runner:
    """Works through the items of one command."""

    def __init__(
        self, store: Store, run_one: Callable[[Any], Awaitable[Episode]], watcher: Watcher | None = None
    ) -> None:
        """Take what is needed to run, store and watch episodes."""
        self.store = store
        self.run_one = run_one
        self.watcher = watcher
        self.owner = new_owner()
        self.outcome = Outcome(0)
        self._ready: deque[Item] = deque()
        self._refused: list[Item] = []
        self._held: set[EpisodeKey] = set()
        self._failures_in_a_row = 0

    async def run(self, items: Sequence[Item], batch_size: int) -> Outcome:
        """Run all items, `batch_size` at a time.

        A cancellation gives up the claims of what is in flight before it goes on; a database that goes away stops
        the run, and the outcome says so.
        """
        self.outcome = Outcome(len(items))
        self._ready = deque(items)
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep())
                workers = [group.create_task(self._work(batch_size)) for _ in range(min(batch_size, len(items)))]
                await asyncio.gather(*workers)
                keeper.cancel()
        except* UserError as errors:
            # The database went away; whatever is stored by now is whole, and the rest can be run later.
            self.outcome.is_stopped = str(errors.exceptions[0])
        finally:
            with suppress(UserError):
                self.store.release(self._held, self.owner)
        return self.outcome

    async def _work(self, batch_size: int) -> None:
        """Take items as long as there are any."""
        while self._ready or self._refused or self._held:
            if self.outcome.is_stopped:
                return
            if not self._ready:
                if not self._refused:
                    return
                await asyncio.sleep(IDLE_S)
                continue
            await self._one(self._ready.popleft())
            if self._failures_in_a_row >= max(MOST_FAILURES_IN_A_ROW, batch_size):
                self.outcome.is_stopped = "a server stopped answering"

    async def _one(self, item: Item) -> None:
        """Claim, run and store one item."""
        if not await asyncio.to_thread(self.store.claim, item.key, self.owner, CLAIM_TTL_S):
            self._refused.append(item)
            return
        self._held.add(item.key)
        episode = await self.run_one(item)
        is_ours = await asyncio.to_thread(self.store.put_episode, episode, self.owner)
        self._held.discard(item.key)
        if not is_ours:
            self._refused.append(item)
            return
        is_unreachable = episode.status != "scored" and UNREACHABLE in episode.failure
        self._failures_in_a_row = self._failures_in_a_row + 1 if is_unreachable else 0
        self.outcome.add(episode)
        self._tell()

    async def _keep(self) -> None:
        """Prolong our claims, and look again at what others had claimed."""
        passed_s = 0.0
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            passed_s += LOOK_AGAIN_S
            if passed_s >= RENEW_S and self._held:
                passed_s = 0.0
                await asyncio.to_thread(self.store.renew, set(self._held), self.owner, CLAIM_TTL_S)
            if self._refused:
                await self._look_again()

    async def _look_again(self) -> None:
        """Count what is done elsewhere by now; try the rest again."""
        refused = list(self._refused)
        found = await asyncio.to_thread(self.store.find_keys, {item.key for item in refused})
        # Only now: a worker that sees nothing left to do would go home.
        self._refused = self._refused[len(refused) :]
        for item in refused:
            head = found.get(item.key)
            if head is not None and head.status == "scored":
                self.outcome.elsewhere += 1
                self._tell()
            else:
                self._ready.append(item.with_stored(head))

    def _tell(self) -> None:
        if self.watcher is not None:
            self.watcher.update(self.outcome)
