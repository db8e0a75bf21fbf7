"""Run planned work in an event loop: probe the models, run the items, tell how it went.

Comes in: items and a store. Goes out: an Outcome, and its summary on stderr. A Ctrl-C or SIGTERM gives the claims of
what is in flight back and says how to go on.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import money
from sotopia_sdpo.play import stage as host
from sotopia_sdpo.play.episode import rejudge, sample
from sotopia_sdpo.results.scores import SIMULATED
from sotopia_sdpo.run.plan import WorkItem
from sotopia_sdpo.run.progress import Progress, clock
from sotopia_sdpo.run.runner import Item, Outcome, Runner
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.world.cast import World


SHOWN_REASONS = 5
GO_ON = "run the same command again to go on"


class Limits(NamedTuple):
    """How hard the servers are worked."""

    batch_size: int = 10
    attempts: int = 8
    timeout_s: float = 180.0


class Rescore(NamedTuple):
    """A stored session that is to be judged."""

    key: EpisodeKey
    evaluator: ModelSpec
    source: str
    """The pk of the episode whose session it is."""

    def with_stored(self, _: EpisodeHead | None) -> "Rescore":
        """Whatever is stored under the key, the source stays."""
        return self


async def probe(models: Iterable[ModelSpec], limits: Limits) -> None:
    """Ask every model for a word.

    Raises:
        UserError: if one cannot be had.
    """
    async with LLMClient(limits.attempts, limits.timeout_s) as client:
        await client.probe(models)


async def sample_all(store: Store, items: Sequence[WorkItem], limits: Limits) -> Outcome:
    """Run work items."""
    world = World(store)

    async def one(client: LLMClient, item: WorkItem) -> Episode:
        stored = None
        if item.stored is not None and item.stored.status == "unscored":
            stored = await asyncio.to_thread(store.get_episode, item.stored.pk)
        if stored is not None:
            return await rejudge(client, item.run.evaluator, stored)
        return await sample(client, item, world.cast(item.combo))

    return await _run(store, items, limits, one)


async def rescore_all(store: Store, items: Sequence[Rescore], limits: Limits) -> Outcome:
    """Have stored sessions judged, each under the tag of its item."""

    async def one(client: LLMClient, item: Rescore) -> Episode:
        source = await asyncio.to_thread(store.get_episode, item.source)
        assert source is not None, "the episode was there when the work was planned"
        if source.tag != item.key.tag:
            source = source.model_copy(update={"pk": item.key.pk, "tag": item.key.tag})
        return await rejudge(client, item.evaluator, source)

    return await _run(store, items, limits, one)


async def _run(
    store: Store,
    items: Sequence[Item],
    limits: Limits,
    one: Callable[[LLMClient, Item], Awaitable[Episode]],
) -> Outcome:
    """Work through the items."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    async with LLMClient(limits.attempts, limits.timeout_s) as client:
        host.load()

        async def marked(item: Item) -> Episode:
            episode = await one(client, item)
            if scripted := sorted(client.simulated.intersection(episode.models)):
                episode.settings[SIMULATED] = scripted
            return episode

        started = time.monotonic()
        with Progress(len(items), lambda: client.total) as progress:
            runner = Runner(store, marked, progress)
            try:
                outcome = await runner.run(items, limits.batch_size)
            except asyncio.CancelledError:
                _tell(client, runner.outcome, started)
                print(f"stopped; {GO_ON}", file=sys.stderr)
                raise
        _tell(client, outcome, started)
        return outcome


def _tell(client: LLMClient, outcome: Outcome, started: float) -> None:
    """Sum up a run on stderr."""
    usage = client.total
    elsewhere = f", {outcome.elsewhere} done by another process" if outcome.elsewhere else ""
    lines = [
        f"{outcome.scored} of {outcome.total} episodes scored, {outcome.unscored} unscored, {outcome.failed} failed"
        f"{elsewhere} in {clock(time.monotonic() - started)}: {usage.calls:,} answers, {client.repeated:,} attempts "
        f"repeated, {usage.tokens:,} tokens, {money(usage.cost)}"
    ]
    lines += [f"  {count} x {reason}" for reason, count in outcome.reasons.most_common(SHOWN_REASONS)]
    lines += [f"note: {note}" for note in client.notes]
    if outcome.is_stopped:
        lines.append(f"stopped early: {outcome.is_stopped}")
    if not outcome.is_complete and outcome.done == outcome.total or outcome.is_stopped:
        lines.append(f"what failed or is unscored is taken up when you {GO_ON.removesuffix(' to go on')}")
    print("\n".join(lines), file=sys.stderr)
