"""Run planned work in an event loop: probe the models, play and judge, and say how it went.

Comes in: work and a store. Goes out: an Outcome, and its summary on stderr. A Ctrl-C or SIGTERM gives the claims of
what is in flight back and says how to go on.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from sotopia_sdpo.judge.rejudge import Rescore, rejudge
from sotopia_sdpo.judge.verdict import evaluate
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Meter, amount
from sotopia_sdpo.play import stage as host
from sotopia_sdpo.play.episode import play
from sotopia_sdpo.run.flight import run_loop, stop_on_signals
from sotopia_sdpo.run.plan import LEFT_OUT, SIMULATED, WorkItem
from sotopia_sdpo.run.progress import Progress, clock
from sotopia_sdpo.run.runner import J, Outcome, Ran, Runner
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
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
            await client.probe(models)
            # The run has a client of its own, which does not know of these requests.
            await asyncio.sleep(limits.spacing_s)

    run_loop(ask())


def sample_all(store: Store, items: Sequence[WorkItem], limits: Limits) -> Outcome:
    """Run work items.

    Raises:
        KeyboardInterrupt: if a signal has stopped it.
    """
    world = World(store)

    async def one(client: LLMClient, item: WorkItem) -> Ran:
        stored = None
        if item.stored is not None and item.stored.status == "unscored":
            stored = await asyncio.to_thread(store.get_episode, item.stored.pk)
        if stored is not None:
            return Ran(*await rejudge(client, item.run.evaluator, stored))
        return await sample(client, item, world.cast(item.combo))

    return run_loop(_run(store, items, limits, one))


def rescore_all(store: Store, items: Sequence[Rescore], limits: Limits) -> Outcome:
    """Judge stored sessions, each under the tag of its item.

    Raises:
        KeyboardInterrupt: if a signal has stopped it.
    """

    async def one(client: LLMClient, item: Rescore) -> Ran:
        source = await asyncio.to_thread(store.get_episode, item.source)
        assert source is not None, "the episode was there when the work was planned"
        if source.tag != item.key.tag:
            source = source.model_copy(update={"pk": item.key.pk, "tag": item.key.tag})
        return Ran(*await rejudge(client, item.evaluator, source))

    return run_loop(_run(store, items, limits, one))


async def sample(client: LLMClient, item: WorkItem, cast: Cast) -> Ran:
    """Play a session, have it judged if it came to its end, and return the episode."""
    meter = Meter()
    played = await play(client, lambda: host.Stage(cast.scenario, cast.characters), item.script, meter)
    if played.session is None:
        fields: dict[str, Any] = {"status": "failed", "failure": played.failure}
        is_unreachable = played.is_unreachable
    else:
        verdict = await evaluate(client, item.run.evaluator, played.session, meter)
        fields, is_unreachable = verdict.fields(), verdict.is_unreachable
    episode = Episode(
        environment=item.combo.environment,
        agents=list(item.combo.agents),
        tag=item.key.tag,
        models=[model.name for model in item.models],
        messages=played.messages,
        source_episode=item.source_episode,
        agent_position=item.agent_position,
        location=item.location,
        trial=item.key.trial,
        seed=item.seed,
        settings=item.run.settings(),
        usage={**meter.record(), "seconds": meter.seconds},
        **fields,
    )
    return Ran(episode, is_unreachable)


async def _run(
    store: Store, jobs: Sequence[J], limits: Limits, one: Callable[[LLMClient, J], Awaitable[Ran]]
) -> Outcome:
    """Work through the jobs."""
    stop_on_signals()
    async with LLMClient(limits) as client:
        host.load()

        async def marked(job: J) -> Ran:
            ran = await one(client, job)
            if scripted := sorted(client.simulated.intersection(ran.episode.models)):
                ran.episode.settings[SIMULATED] = scripted
            if left := {name: client.left_out[name] for name in ran.episode.models if name in client.left_out}:
                ran.episode.settings[LEFT_OUT] = left
            return ran

        started = time.monotonic()
        with Progress(len(jobs), "episodes", lambda: client.total) as progress:
            runner = Runner(store, marked, lambda outcome: progress.update(outcome.done, _faults(outcome)))
            try:
                outcome = await runner.run(jobs, limits.concurrency)
            except asyncio.CancelledError:
                _tell(client, runner.outcome, started)
                print(f"stopped; {GO_ON}", file=sys.stderr)
                raise
        _tell(client, outcome, started)
        return outcome


def _faults(outcome: Outcome) -> str:
    return f"{outcome.failed} failed, {outcome.unscored} unscored"


def _tell(client: LLMClient, outcome: Outcome, started: float) -> None:
    """Sum up a run on stderr."""
    usage = client.total
    elsewhere = f", {outcome.elsewhere} done by another process" if outcome.elsewhere else ""
    lines = [
        f"{outcome.scored} of {outcome.total} episodes scored, {outcome.unscored} unscored, {outcome.failed} failed"
        f"{elsewhere} in {clock(time.monotonic() - started)}: {usage.calls:,} answers, {client.repeated:,} attempts "
        f"repeated, {amount(usage)}"
    ]
    lines += [f"  {count} x {reason}" for reason, count in outcome.reasons.most_common(SHOWN_REASONS)]
    lines += [f"note: {note}" for note in client.notes]
    if outcome.stopped_because:
        lines.append(f"stopped early: {outcome.stopped_because}")
    if not outcome.is_complete and outcome.done == outcome.total or outcome.stopped_because:
        lines.append(f"what failed or is unscored is taken up when you {GO_ON.removesuffix(' to go on')}")
    print("\n".join(lines), file=sys.stderr)
