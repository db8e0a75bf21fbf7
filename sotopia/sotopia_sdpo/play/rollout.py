"""Play one episode in an environment: replay what is given, then let something choose every action to the end.

Comes in: a pool of instances, a quest, and what chooses. Goes out: the walk with its outcome, or why it broke off;
never an exception for what a model, a server or the environment did. Invariant: a replay that does not go as the
first play went is never played on.
"""

from collections.abc import Awaitable, Callable, Sequence
from os.path import commonprefix
from typing import NamedTuple

from sotopia_sdpo.envs.pool import EnvironmentFault, Pool
from sotopia_sdpo.envs.protocol import Environment, Quest
from sotopia_sdpo.llm.backends import CallError, Unreachable
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.redact import reason_of, redact
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.play.episode import SEED_LIMIT, SEED_STEP
from sotopia_sdpo.play.script import Player
from sotopia_sdpo.play.walk import NO_ACTION, NO_ACTION_TOLD, Walk, action_of, chat_of, first_turn
from sotopia_sdpo.text import one_line


ACTION_MAX_TOKENS = 64
"""For local servers, where a model that never ends would hold a slot."""
MOST_SHOWN = 80
AGENT_PART = "agent_0"
"""What an episode's usage calls the agent's calls, as in SOTOPIA's."""

Choose = Callable[[Walk], Awaitable[str]]
"""Gives the next action."""


class RolledOut(NamedTuple):
    """An episode that is over, or broke off."""

    walk: Walk
    outcome: Outcome | None
    """None where it broke off."""
    failure: str = ""
    is_unreachable: bool = False
    """Whether it broke off because a server was not there."""


class Broken(Exception):
    """An episode cannot go on; one line that says why."""


async def roll_out(
    pool: Pool, quest: Quest, choose: Choose | None, limit: int, history: Walk | None = None
) -> RolledOut:
    """Play an episode from its start, or from where its history ends.

    Args:
        pool: the instances.
        quest: what is played.
        choose: gives the actions; None takes the environment's own gold actions, which are never cut.
        limit: the most actions, those of the history included.
        history: what is replayed first: the beginning of an earlier walk in the same quest.
    """
    episode = _Episode(pool)
    try:
        async with pool.borrowed() as environment:
            if choose is None:
                gold = await pool.call(environment.gold, quest)
                if gold is None:
                    raise Broken(f"no gold actions of {quest} are known")
                choose, limit = _reading(gold), len(gold)
            await episode.begin(environment, quest)
            if history is not None:
                await episode.replay(environment, history)
            while not episode.is_over and len(episode.walk.actions) < limit:
                await episode.act(environment, await choose(episode.walk))
            return RolledOut(episode.walk, await pool.call(environment.score))
    except (Broken, EnvironmentFault) as err:
        return RolledOut(episode.walk, None, redact(err))
    except CallError as err:
        return RolledOut(episode.walk, None, reason_of(err), isinstance(err, Unreachable))


class _Episode:
    """An episode under way."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.walk = Walk(("",))
        self.is_over = False

    async def begin(self, environment: Environment, quest: Quest) -> None:
        """Begin the quest."""
        opening = await self._pool.call(environment.reset, quest)
        self.walk = Walk((first_turn(opening, environment.commands),))

    async def act(self, environment: Environment, action: str) -> None:
        """Do one action."""
        if action == NO_ACTION:
            self.walk = self.walk.then(action, NO_ACTION_TOLD)
            return
        reply = await self._pool.call(environment.act, action)
        self.walk, self.is_over = self.walk.then(action, reply.observation), reply.is_over

    async def replay(self, environment: Environment, history: Walk) -> None:
        """Do all actions of a history.

        Raises:
            Broken: if the agent is told something else than it was then, or the episode is over before.
        """
        self._compare(history)
        for step, action in enumerate(history.actions, 1):
            if self.is_over:
                raise Broken(f"the replay is over after step {step - 1} of {len(history.actions)}")
            await self.act(environment, action)
            self._compare(history)

    def _compare(self, history: Walk) -> None:
        step = len(self.walk.actions)
        told, before = self.walk.told[step], history.told[step]
        if told != before:
            place = len(commonprefix((told, before)))
            shown = (one_line(text[place:])[:MOST_SHOWN] for text in (before, told))
            raise Broken("the replay differs from the first play at step {}: {!r} then, {!r} now".format(step, *shown))


def _reading(actions: Sequence[str]) -> Choose:
    """Give the actions of a list, one after the other."""

    async def choose(walk: Walk) -> str:
        return actions[len(walk.actions)]

    return choose


def asking(client: LLMClient, player: Player, seed: int, affinity: str, meter: Meter) -> Choose:
    """Ask a model for every action.

    Args:
        client: calls it.
        player: the model, and how its answers are drawn.
        seed: of the episode; every action has one of its own.
        affinity: names the episode, so that its calls go where their prefix is cached.
        meter: counts what the calls took.
    """
    model = player.model
    most = ACTION_MAX_TOKENS if model.is_custom else None

    async def choose(walk: Walk) -> str:
        drawn_by = (seed + SEED_STEP * len(walk.actions)) % SEED_LIMIT
        sampling = Sampling(player.temperature, drawn_by, most, top_p=player.top_p, top_k=player.top_k)
        answer = await client.complete(model, chat_of(walk), sampling, affinity=affinity)
        meter.add(AGENT_PART, answer.usage)
        return action_of(answer.text)

    return choose
