"""Play what searches want: continuations of dialogues, which are kept as episodes of task `hpos`.

Comes in: for every dialogue and point, the work items of its continuations. Goes out: what each search found, and what
it took. A continuation is the very episode that task `hpos` samples from the turn after its point: `hpos` finds it
stored, and data_filtering_positive.py takes it for a positive. A search goes on as soon as what it has asked for is
there, while others wait for theirs, so no episode in flight waits for the slowest one of many. Invariants: what is
stored is not played again, by this process or another; what a search finds does not depend on when, since its
continuations and their seeds are told by dialogue, point and trial; a failed continuation has no score, and ends its
search until the next run.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Generic, NamedTuple, TypeVar

from sotopia_sdpo.pairs.values import Scores, Search
from sotopia_sdpo.run.plan import Planned
from sotopia_sdpo.run.runner import Counts, Follow
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.keys import EpisodeKey


T = TypeVar("T")
C = TypeVar("C", bound=Planned)
"""The item of a continuation."""


class Score(NamedTuple):
    """What a continuation came to."""

    value: float
    steps: int
    """The agent's turns, those that were replayed too."""
    calls: int
    """Of all models that took part."""


def calls_of(episode: Episode) -> int:
    """Return how many calls of models an episode took, those of its judge too."""
    return sum(part["calls"] for part in episode.usage.values() if isinstance(part, dict))


Play = Callable[[Sequence[C], Follow[C], Collection[EpisodeKey]], Awaitable[Counts]]
"""Plays continuations, and those that are wanted once one is over; looks in the end whether others are there still."""


class Replays(Generic[C, T]):
    """The continuations of some dialogues, and the searches that want them."""

    def __init__(
        self,
        store: Store,
        items: Callable[[int, int], Sequence[C]],
        play: Play[C],
        score: Callable[[Episode], Score | None],
        searches: Sequence[Search[T]],
    ) -> None:
        """Take the searches, and what plays what they want.

        Args:
            store: where continuations are kept.
            items: gives those of a dialogue, by number, from a point, in the order of their trials.
            play: plays some of them.
            score: reads a scored one; None where it lacks what is compared.
            searches: one for each dialogue.
        """
        self.store = store
        self.items = items
        self.play = play
        self.score = score
        self.searches = searches
        self.used: dict[EpisodeKey, Score] = {}
        """The continuations that searches have asked for, whenever they were played."""
        self.results: list[T | None] = [None] * len(searches)
        self.stopped_because = ""
        """Why not all was played, or what searches go by is not there any more; empty if all is well."""
        self._wanted: dict[int, dict[int, Sequence[C]]] = {}
        """By search, what it has asked for last, by point."""
        self._missing: dict[int, dict[EpisodeKey, C]] = {}
        """By search, what is not played yet of that."""
        self._of: defaultdict[EpisodeKey, list[int]] = defaultdict(list)
        """The searches that wait for a continuation."""

    async def run(self) -> list[T | None]:
        """Run all searches, each at its own pace; None for one whose continuations are not all scored."""
        first = [item for number in range(len(self.searches)) for item in self._go_on(number, None)]
        if first:
            counts = await self.play(first, self._follow, self.used.keys())
            self.stopped_because = counts.stopped_because
        return self.results

    async def _follow(self, item: C) -> list[C]:
        """Return what is wanted now that a continuation is over."""
        over = self._of.pop(item.key)
        for number in over:
            del self._missing[number][item.key]
        done = [number for number in over if not self._missing[number]]
        return await asyncio.to_thread(lambda: [more for number in done for more in self._scored(number)])

    def _scored(self, number: int) -> list[C]:
        """Send a search the scores of what it has asked for, if all are there; return what has to be played next."""
        wanted = self._wanted[number]
        self._read([item for found in wanted.values() for item in found])
        if not all(item.key in self.used for found in wanted.values() for item in found):
            return []
        scores = {point: [self.used[item.key].value for item in found] for point, found in wanted.items()}
        return self._go_on(number, scores)

    def _go_on(self, number: int, scores: Scores | None) -> list[C]:
        """Send a search some scores; return what has to be played next. None starts it."""
        try:
            points = self.searches[number].send(scores)  # type: ignore[arg-type]
        except StopIteration as done:
            self.results[number] = done.value
            return []
        self._wanted[number] = {point: self.items(number, point)[:count] for point, count in points.items()}
        asked = {item.key: item for found in self._wanted[number].values() for item in found}
        stored = self.store.find_keys(asked.keys() - self.used.keys())
        self._missing[number] = {
            key: item.with_stored(stored.get(key))
            for key, item in asked.items()
            if key not in self.used and (key not in stored or stored[key].status != "scored")
        }
        if not self._missing[number]:
            return self._scored(number)
        new = [item for key, item in self._missing[number].items() if key not in self._of]
        for key in self._missing[number]:
            self._of[key].append(number)
        return new

    def _read(self, items: Sequence[C]) -> None:
        """Read the scores of those that are stored by now."""
        for key, head in self.store.find_keys({item.key for item in items} - self.used.keys()).items():
            episode = self.store.get_episode(head.pk) if head.status == "scored" else None
            if episode is not None and (score := self.score(episode)) is not None:
                self.used[key] = score
