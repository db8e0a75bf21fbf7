"""Play planned quests in an event loop, with a pool of instances of their environment.

Comes in: work and a store. Goes out: Counts, as in `execute.py`; every episode is stored with its score, by the
environment itself. Invariant: no instance outlives the run, however that ends.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sotopia_sdpo.envs.pool import Pool
from sotopia_sdpo.envs.protocol import Environment
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.play.rollout import asking, roll_out
from sotopia_sdpo.play.script import Player
from sotopia_sdpo.play.walk import AGENT, messages_of
from sotopia_sdpo.run.execute import run_jobs
from sotopia_sdpo.run.flight import run_loop
from sotopia_sdpo.run.quests import QuestItem
from sotopia_sdpo.run.runner import Counts, Follow, Ran, nothing_more
from sotopia_sdpo.run.terms import Terms
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import RANGE, Episode
from sotopia_sdpo.store.keys import EpisodeKey


def roll_out_all(
    store: Store,
    items: Sequence[QuestItem],
    make: Callable[[], Environment],
    limits: Limits,
    done: Collection[EpisodeKey] = (),
) -> Counts:
    """Run work items; what is done of the same work is looked at in the end.

    Raises:
        KeyboardInterrupt: if a signal has stopped it.
    """

    async def work() -> Counts:
        with Pool(make, limits.concurrency) as pool:
            return await roll_out_items(store, items, pool, limits, done=done)

    return run_loop(work())


async def roll_out_items(
    store: Store,
    items: Sequence[QuestItem],
    pool: Pool,
    limits: Limits,
    follow: Follow[QuestItem] = nothing_more,
    done: Collection[EpisodeKey] = (),
) -> Counts:
    """Run work items, and those that follow them, in a loop that runs already, and on a pool that outlives them."""

    async def one(client: LLMClient, item: QuestItem) -> Ran:
        return await sample(client, item, pool)

    return await run_jobs(store, items, limits, one, lambda: None, follow, Terms(store, items), done)


async def sample(client: LLMClient, item: QuestItem, pool: Pool) -> Ran:
    """Play an episode, and return it as it is stored."""
    meter, run = Meter(), item.run
    player = Player(run.model, run.temperature, run.top_p, run.top_k) if run.model else None
    choose = asking(client, player, item.seed, item.key.pk, meter) if player else None
    played = await roll_out(pool, item.quest, choose, run.max_actions, item.history)
    episode = Episode(
        environment=item.environment,
        agents=[AGENT],
        tag=item.key.tag,
        models=list(run.players),
        messages=messages_of(played.walk),
        source_episode=item.source_episode,
        agent_position=0,
        location=item.location,
        trial=item.key.trial,
        seed=item.seed,
        usage={**meter.record(), "seconds": meter.seconds},
        **_result(played.outcome, played.failure, run.settings()),
    )
    return Ran(episode, played.is_unreachable)


def _result(outcome: Outcome | None, failure: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an episode that say how it went; the range of the score stands among the settings."""
    if outcome is None:
        return {"status": "failed", "failure": failure, "settings": settings}
    known = {"name": outcome.name, "low": outcome.low, "high": outcome.high}
    reward = float(outcome.value), {outcome.name: float(outcome.value)}
    return {"status": "scored", "rewards": [reward], "settings": {**settings, RANGE: known}}
