"""Play what searches want: continuations of dialogues, which are kept as episodes of task `hpos`.

Comes in: for every dialogue and point, the work items of its continuations. Goes out: what each search found, and what
it took. A continuation is the very episode that task `hpos` samples from the turn after its point: `hpos` finds it
stored, and data_filtering_positive.py takes it for a positive. Invariant: what is stored is not played again, by this
process or another; a failed continuation has no score, and ends its search until the next run.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from sotopia_sdpo.pairs.values import Scores, Search, Wanted
from sotopia_sdpo.run.plan import Planned, plan
from sotopia_sdpo.run.runner import Counts
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


class Replays(Generic[C]):
    """The continuations of some dialogues."""

    def __init__(
        self,
        store: Store,
        items: Callable[[int, int], Sequence[C]],
        play: Callable[[Sequence[C]], Awaitable[Counts]],
        score: Callable[[Episode], Score | None],
    ) -> None:
        """Take what plays them.

        Args:
            store: where they are kept.
            items: gives the continuations of a dialogue, by number, from a point, in the order of their trials.
            play: plays some of them.
            score: reads a scored one; None where it lacks what is compared.
        """
        self.store = store
        self.items = items
        self.play = play
        self.score = score
        self.used: dict[EpisodeKey, Score] = {}
        """The continuations that searches have asked for, whenever they were played."""

    async def run(self, searches: Sequence[Search[T]]) -> list[T | None]:
        """Run searches side by side; None for one whose continuations are not all scored."""
        results: list[T | None] = [None] * len(searches)
        scores: dict[int, Scores | None] = dict.fromkeys(range(len(searches)))
        while True:
            wanted: dict[int, Wanted] = {}
            for number, known in scores.items():
                try:
                    # None starts a search.
                    wanted[number] = searches[number].send(known)  # type: ignore[arg-type]
                except StopIteration as done:
                    results[number] = done.value
            if not wanted:
                return results
            scores = await self._scores(wanted)

    async def _scores(self, wanted: Mapping[int, Wanted]) -> dict[int, Scores | None]:
        """Play what is not stored yet, and return the scores by dialogue; without those that lack one."""
        items = {
            number: {point: self.items(number, point)[:count] for point, count in points.items()}
            for number, points in wanted.items()
        }
        missing = [
            item
            for points in items.values()
            for found in points.values()
            for item in found
            if item.key not in self.used
        ]
        if work := plan(self.store, missing).items:
            await self.play(work)
        for key, head in self.store.find_keys({item.key for item in missing}).items():
            episode = self.store.get_episode(head.pk) if head.status == "scored" else None
            if episode is not None and (score := self.score(episode)) is not None:
                self.used[key] = score
        return {
            number: {point: [self.used[item.key].value for item in found] for point, found in points.items()}
            for number, points in items.items()
            if all(item.key in self.used for found in points.values() for item in found)
        }
