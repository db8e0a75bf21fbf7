"""Run many episodes, across any number of processes.

Comes in: jobs, what runs one of them, and what else is wanted once one is over. Goes out: Counts, with reasons. Every
episode is claimed in the store before it is run and stored in one step with the release of its claim, so that none is
run twice or lost; what another process has claimed is looked at again until it is done there, or its claim runs out.
Invariant: what is counted as done is in the store at the end.
"""

import asyncio
import os
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from sotopia_sdpo.account import Missed
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.run.flight import Flight
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey


CLAIM_TTL_S = 12.0
"""How long the episodes of a killed process stay out of reach for others."""
RENEW_S = 2.0
"""Within a last call, so that a claim outlives a server that was away and a clock that was set."""
LOOK_AGAIN_S = 1.0
MAY_LOSE = 3
"""How often a job is done whose claim is lost meanwhile; each time is paid for."""
CLAIM_LOST = f"its claim was lost {MAY_LOSE} times while it ran, so it was not stored"


class Job(Protocol):
    """A piece of work: an episode to be run, or to be judged again."""

    @property
    def key(self) -> EpisodeKey:
        """The key under which its episode is stored."""

    def with_stored(self, head: EpisodeHead | None) -> Self:
        """Return the job with what is stored under its key by now."""


J = TypeVar("J", bound=Job)
Follow = Callable[[J], Awaitable[Sequence[J]]]
"""Returns the jobs that are wanted now that one is over, however it went."""


class Ran(NamedTuple):
    """An episode that has been run."""

    episode: Episode
    is_unreachable: bool = False
    """Whether it has no scores because a server was not there."""


@dataclass
class Counts:
    """How a run went so far."""

    total: int
    scored: int = 0
    unscored: int = 0
    failed: int = 0
    elsewhere: int = 0
    """Done by another process meanwhile."""
    gone: int = 0
    """Of what was done, now or before: not stored any more in the end."""
    reasons: Counter[str] = field(default_factory=Counter)
    stopped_because: str = ""
    """Why the rest was not started, or what is counted is not there; empty if all is well."""

    @property
    def done(self) -> int:
        """How many are over, however they went."""
        return self.scored + self.unscored + self.failed + self.elsewhere

    @property
    def is_complete(self) -> bool:
        """Whether every episode has its scores."""
        return self.scored + self.elsewhere == self.total and not self.stopped_because

    def missed(self, done_before: int) -> Missed:
        """Return how many have no scores, of these and of those that an earlier run has scored.

        A run that was stopped has missed something, even if only the look at what is stored.
        """
        count = max(self.total - self.scored - self.elsewhere + self.gone, bool(self.stopped_because))
        total = self.total + done_before
        reason = self.stopped_because or next((reason for reason, _ in self.reasons.most_common(1)), "")
        return Missed(count, total, "episodes", reason, self.unscored, bool(self.stopped_because))

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


async def nothing_more(_: Job) -> Sequence[Any]:
    """Follow no job with another."""
    return ()


def new_owner() -> str:
    """Return a name of this process among all that share a store."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Runner(Generic[J]):
    """Works through the jobs of one command."""

    def __init__(
        self,
        store: Store,
        run_one: Callable[[J], Awaitable[Ran]],
        tell: Callable[[Counts], None] = lambda _: None,
        renew: Callable[[], None] = lambda: None,
        done: Collection[EpisodeKey] = (),
    ) -> None:
        """Take what runs an episode, where it is stored, what is told the counts, what else to renew, what is done.

        What else is done is looked at in the end, so it may grow until then.
        """
        self.store = store
        self.run_one = run_one
        self.tell = tell
        self.renew = renew
        self.owner = new_owner()
        self.counts = Counts(0)
        self._flight = Flight(0)
        self._ready: deque[J] = deque()
        self._refused: list[J] = []
        self._held: set[EpisodeKey] = set()
        self._done: set[EpisodeKey] = set()
        self._done_before = done
        self._lost: Counter[EpisodeKey] = Counter()
        self._follow: Follow[J] = nothing_more
        self._changed = asyncio.Event()

    async def run(self, jobs: Sequence[J], batch_size: int, follow: Follow[J] = nothing_more) -> Counts:
        """Run all jobs and those that follow them, `batch_size` at a time.

        A cancellation gives up the claims of what is in flight before it goes on. A database that goes away for
        longer than its store waits stops the run, and the counts say so.
        """
        self.counts = Counts(len(jobs))
        self._ready = deque(jobs)
        self._follow = follow
        self._flight = Flight(batch_size)
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep())
                await self._flight.run(self._next, self._one)
                keeper.cancel()
            await self._check_there()
        except* UserError as errors:
            # The database went away; whatever is stored by now is whole, and the rest can be run later.
            self._flight.stop(str(errors.exceptions[0]))
        finally:
            self.counts.stopped_because = self._flight.stopped_because
            if self._held:
                self.store.wait_no_more()
                with suppress(UserError):
                    self.store.release(self._held, self.owner)
        return self.counts

    async def _next(self) -> J | None:
        """Return the next job, waiting for what others have claimed and what follows; None where none may start."""
        while not self._flight.stopped_because and self.counts.done < self.counts.total:
            if self._ready:
                return self._ready.popleft()
            self._changed.clear()
            await self._changed.wait()
        return None

    async def _one(self, job: J) -> None:
        """Claim, run and store one episode."""
        if not await asyncio.to_thread(self.store.claim, job.key, self.owner, CLAIM_TTL_S):
            self._refused.append(job)
            return
        self._held.add(job.key)
        if self._lost[job.key] == MAY_LOSE:
            await asyncio.to_thread(self.store.release, [job.key], self.owner)
            self._held.discard(job.key)
            await self._add_what_follows(job)
            self.counts.failed += 1
            self.counts.reasons[CLAIM_LOST] += 1
            self._told()
            return
        episode, is_unreachable = await self.run_one(job)
        # It could not be stored under the claim, and would be run again and again.
        assert episode.key == job.key, f"{episode.key} is not the episode of {job.key}"
        is_ours = await asyncio.to_thread(self.store.put_episode, episode, self.owner)
        self._held.discard(job.key)
        if not is_ours:
            self._lost[job.key] += 1
            self._refused.append(job)
            return
        if episode.status == "scored":
            self._done.add(job.key)
        self._flight.count(is_unreachable)
        await self._add_what_follows(job)
        self.counts.add(episode)
        self._told()

    async def _add_what_follows(self, job: J) -> None:
        """Make the jobs ready that follow one; it is counted as done only then, so that no worker goes home."""
        more = await self._follow(job)
        self._ready.extend(more)
        self.counts.total += len(more)

    def _told(self) -> None:
        """Say how the run goes, to users and to idle workers."""
        self.tell(self.counts)
        self._changed.set()

    async def _keep(self) -> None:
        """Prolong our claims, and look again at what others had claimed."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            # By the clock: looking again takes long where the database is slow or was gone.
            if time.monotonic() - renewed >= RENEW_S:
                renewed = time.monotonic()
                await asyncio.to_thread(self._renew, set(self._held))
            if self._refused:
                await self._look_again()

    def _renew(self, held: set[EpisodeKey]) -> None:
        self.renew()
        if held:
            self.store.renew(held, self.owner, CLAIM_TTL_S)

    async def _check_there(self) -> None:
        """Look whether all that counts as done is stored still: a server or a file may have been replaced by another.

        Raises:
            UserError: if some of it is gone.
        """
        await asyncio.to_thread(self.store.check_keeps)
        done = self._done.union(self._done_before)
        found = await asyncio.to_thread(self.store.find_keys, done)
        if gone := done - {key for key, head in found.items() if head.status == "scored"}:
            self.counts.gone = len(gone)
            raise UserError(
                f"{self.store.url}: {len(gone)} of the episodes that count as done are not there any more,"
                f" such as {min(gone).combo} of tag {min(gone).tag}; look whether the database was emptied or replaced"
            )

    async def _look_again(self) -> None:
        """Count what is done elsewhere by now; try the rest again."""
        refused = list(self._refused)
        found = await asyncio.to_thread(self.store.find_keys, {job.key for job in refused})
        self._refused = self._refused[len(refused) :]
        for job in refused:
            head = found.get(job.key)
            if head is not None and head.status == "scored":
                self._done.add(job.key)
                await self._add_what_follows(job)
                self.counts.elsewhere += 1
                self._told()
            else:
                self._ready.append(job.with_stored(head))
                self._changed.set()
