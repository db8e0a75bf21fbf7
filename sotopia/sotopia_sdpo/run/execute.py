"""Run planned work in an event loop: probe the models, play and judge, and say how it went.

Comes in: work and a store. Goes out: Counts, and their summary on stderr. A Ctrl-C or SIGTERM gives the claims of
what is in flight back and says how to go on.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.panel import judge, judgements_in
from sotopia_sdpo.judge.rejudge import Rescore, rejudge, under
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Meter, amount
from sotopia_sdpo.play import stage as host
from sotopia_sdpo.play.episode import play
from sotopia_sdpo.run.flight import run_loop, stop_on_signals
from sotopia_sdpo.run.plan import LEFT_OUT, SIMULATED, WorkItem
from sotopia_sdpo.run.progress import Progress, clock
from sotopia_sdpo.run.runner import Counts, Follow, J, Ran, Runner, nothing_more
from sotopia_sdpo.run.terms import Terms
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.world.cast import Cast, World


SHOWN_REASONS = 5
GO_ON = "run the same command again to go on"


def probe(models: Iterable[ModelSpec], limits: Limits) -> None:
    """Ask every model for a word.

    Raises:
        UserError: if one cannot be had.
    """

    async def ask() -> None:
        async with LLMClient(limits) as client:
            for note in await client.probe(models):
                print(f"note: {note}", file=sys.stderr)
            # The run has a client of its own, which does not know of these requests.
            await asyncio.sleep(limits.spacing_s)

    run_loop(ask())


def sample_all(store: Store, items: Sequence[WorkItem], limits: Limits, done: Collection[EpisodeKey] = ()) -> Counts:
    """Run work items; what is done of the same work is looked at in the end.

    Raises:
        KeyboardInterrupt: if a signal has stopped it.
    """
    return run_loop(sample_items(store, items, limits, done=done))


async def sample_items(
    store: Store,
    items: Sequence[WorkItem],
    limits: Limits,
    follow: Follow[WorkItem] = nothing_more,
    done: Collection[EpisodeKey] = (),
) -> Counts:
    """Run work items, and those that follow them, in a loop that runs already."""
    world = World(store)

    async def one(client: LLMClient, item: WorkItem) -> Ran:
        stored = None
        if item.stored is not None and item.stored.status == "unscored":
            stored = await asyncio.to_thread(store.get_episode, item.stored.pk)
        if stored is not None:
            return Ran(*await rejudge(client, item.run.evaluator, stored))
        return await sample(client, item, await asyncio.to_thread(world.cast, item.combo))

    return await run_jobs(store, items, limits, one, follow=follow, terms=Terms(store, items), done=done)


def rescore_all(store: Store, items: Sequence[Rescore], limits: Limits, done: Collection[EpisodeKey] = ()) -> Counts:
    """Judge stored sessions, each under the tag of its item; what is done of the same work is looked at in the end.

    Raises:
        KeyboardInterrupt: if a signal has stopped it.
    """

    async def one(client: LLMClient, item: Rescore) -> Ran:
        source = await asyncio.to_thread(store.get_episode, item.source)
        if source is None:
            raise UserError(
                f"{store.url}: session {item.source} was there when this began, and is not any more; look whether its"
                " tag was deleted, or the database replaced"
            )
        if source.tag != item.key.tag:
            source = under(item.key, source)
        return Ran(*await rejudge(client, item.evaluator, source))

    return run_loop(run_jobs(store, items, limits, one, done=done))


async def sample(client: LLMClient, item: WorkItem, cast: Cast) -> Ran:
    """Play a session, have it judged if it came to its end, and return the episode."""
    meter = Meter()
    record: dict[str, Any] = {}
    played = await play(client, lambda: host.SotopiaStage(cast.scenario, cast.characters), item.script, meter)
    if played.session is None:
        fields: dict[str, Any] = {"status": "failed", "failure": played.failure}
        is_unreachable = played.is_unreachable
    else:
        verdict, record = await judge(client, item.run.evaluator, played.session, meter)
        fields, is_unreachable = verdict.fields(), verdict.is_unreachable
    episode = Episode(
        environment=item.combo.environment,
        agents=list(item.combo.agents),
        tag=item.key.tag,
        models=item.names,
        messages=played.messages,
        source_episode=item.source_episode,
        agent_position=item.agent_position,
        location=item.location,
        trial=item.key.trial,
        seed=item.seed,
        settings=item.run.settings() | record,
        usage={**meter.record(), "seconds": meter.seconds},
        **fields,
    )
    return Ran(episode, is_unreachable)


async def run_jobs(
    store: Store,
    jobs: Sequence[J],
    limits: Limits,
    one: Callable[[LLMClient, J], Awaitable[Ran]],
    load: Callable[[], None] = host.load,
    follow: Follow[J] = nothing_more,
    terms: Terms | None = None,
    done: Collection[EpisodeKey] = (),
) -> Counts:
    """Work through the jobs, and those that follow them.

    Args:
        store: where their episodes go.
        jobs: the work.
        limits: how many are in flight, and how models are called.
        one: does one of them.
        load: imports what takes seconds, before anything is in flight.
        follow: tells what else is wanted once a job is over.
        terms: holds their tags, those of what follows too.
        done: what an earlier run has done of the same work; that it is still there is looked at in the end.

    Raises:
        UserError: if they cannot be held.
    """
    stop_on_signals()
    async with LLMClient(limits) as client:
        load()
        if terms:
            # Only now: importing may take longer than a claim lives that nobody renews.
            await terms.hold()

        async def marked(job: J) -> Ran:
            ran = await one(client, job)
            note_marks(ran.episode, client)
            return ran

        started = time.monotonic()
        with Progress(len(jobs), "episodes", lambda: client.total) as progress:

            def tell(counts: Counts) -> None:
                progress.update(counts.done, _faults(counts), counts.total)

            runner = Runner(store, marked, tell, terms.renew if terms else lambda: None, done)
            try:
                counts = await runner.run(jobs, limits.concurrency, follow)
            except asyncio.CancelledError:
                _tell(client, runner.counts, started)
                print(f"stopped; {GO_ON}", file=sys.stderr)
                raise
        _tell(client, counts, started)
        return counts


def note_marks(episode: Episode, client: LLMClient) -> None:
    """Note in an episode's settings which of its models were scripted, and what was left out of their requests.

    A session that is judged again keeps what an earlier run has noted of its agents; what was noted of its earlier
    judge goes.
    """
    called = dict.fromkeys([*episode.models, *(one.judge for one in judgements_in(episode.settings))])
    noted, earlier = episode.settings.pop(SIMULATED, []), episode.settings.pop(LEFT_OUT, {})
    if not isinstance(noted, list) or not isinstance(earlier, dict):  # of an episode that others have written
        noted, earlier = [], {}
    if scripted := sorted({name for name in called if name in client.simulated or name in noted}):
        episode.settings[SIMULATED] = scripted
    left = {name: {**earlier.get(name, {}), **client.left_out.get(name, {})} for name in called}
    if left := {name: questions for name, questions in left.items() if questions}:
        episode.settings[LEFT_OUT] = left


def _faults(counts: Counts) -> str:
    return f"{counts.failed} failed, {counts.unscored} unscored"


def _tell(client: LLMClient, counts: Counts, started: float) -> None:
    """Sum up a run on stderr."""
    usage = client.total
    elsewhere = f", {counts.elsewhere} done by another process" if counts.elsewhere else ""
    lines = [
        f"{counts.scored} of {counts.total} episodes scored, {counts.unscored} unscored, {counts.failed} failed"
        f"{elsewhere} in {clock(time.monotonic() - started)}: {usage.calls:,} answers, {client.repeated:,} attempts "
        f"repeated, {amount(usage)}"
    ]
    lines += [f"  {count} x {reason}" for reason, count in counts.reasons.most_common(SHOWN_REASONS)]
    lines += [f"note: {note}" for note in client.notes]
    if counts.stopped_because:
        lines.append(f"stopped early: {counts.stopped_because}")
    if not counts.is_complete and counts.done == counts.total or counts.stopped_because:
        lines.append(f"what failed or is unscored is taken up when you {GO_ON.removesuffix(' to go on')}")
    print("\n".join(lines), file=sys.stderr)
