"""Run one episode: replay what is given, let the models act to the end, have it judged.

Comes in: a work item. Goes out: an Episode that is scored, unscored with the evaluator's fault, or failed with the
reason; never an exception for what a model or a server did.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sotopia_sdpo.judge.verdict import Unscored, evaluate
from sotopia_sdpo.llm.backends import CallError
from sotopia_sdpo.llm.client import LLMClient, Sampling, reason_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.play.actions import RESPONSE_SCHEMA, Action, AnswerError, parse_answer
from sotopia_sdpo.play.dialogue import Session, chat_of, session_of
from sotopia_sdpo.play.stage import Stage
from sotopia_sdpo.run.plan import WorkItem
from sotopia_sdpo.store.episode import Episode


if TYPE_CHECKING:
    from sotopia.database import AgentProfile, EnvironmentProfile

ANSWER_ATTEMPTS = 6
AGENT_MAX_TOKENS = 512
"""For local servers, where a model that never ends would hold a slot; others may think before they answer."""
SCHEMA_NAME = "action"
SEED_STEP = 7919
"""Keeps the seeds of an episode's turns and attempts apart."""
SEED_LIMIT = 2**31

# What upstream raises on a profile that it cannot render: its own checks, pydantic's, lxml's.
STAGE_ERRORS = (ValueError, AssertionError, SyntaxError, LookupError)


class Cast(NamedTuple):
    """Who meets where, in upstream's models."""

    scenario: "EnvironmentProfile"
    characters: "tuple[AgentProfile, AgentProfile]"


class Meter:
    """The usage of one episode, by who caused it."""

    def __init__(self) -> None:
        self.parts: dict[str, Usage] = {}
        self.started = time.monotonic()

    def add(self, part: str, usage: Usage) -> None:
        """Add the usage of one answer."""
        self.parts[part] = self.parts.get(part, Usage()).plus(usage)

    def record(self) -> dict[str, Any]:
        """Give it as an episode stores it."""
        seconds = round(time.monotonic() - self.started, 3)
        return {**{part: usage.record() for part, usage in self.parts.items()}, "seconds": seconds}


async def sample(client: LLMClient, item: WorkItem, cast: Cast) -> Episode:
    """Run an episode from its start, or from where its history ends, and have it judged."""
    meter = Meter()
    try:
        stage = Stage(cast.scenario, cast.characters)
    except STAGE_ERRORS as err:
        return _episode(item, meter, [], failure=f"upstream cannot set the stage: {reason_of(err)}")
    try:
        await stage.run(_asker(client, item, meter), item.history)
    except (CallError, AnswerError, ValueError) as err:
        return _episode(item, meter, stage.messages, failure=reason_of(err))
    outcome = await _judged(client, item.run.evaluator, meter, stage.session)
    return _episode(item, meter, stage.messages, **outcome)


async def rejudge(client: LLMClient, evaluator: ModelSpec, stored: Episode) -> Episode:
    """Have a stored session judged; its text and what it took to sample stay as they are."""
    meter = Meter()
    try:
        outcome = await _judged(client, evaluator, meter, session_of(stored.messages))
    except ValueError as err:
        outcome = {"status": "unscored", "failure": f"cannot be judged: {reason_of(err)}"}
    models = [evaluator.name, *stored.models[1:]] if len(stored.models) > 1 else stored.models
    cleared: dict[str, Any] = {"failure": "", "rewards": [], "reasoning": ""}
    usage = {**stored.usage, **{part: amount.record() for part, amount in meter.parts.items()}}
    return stored.model_copy(update={**cleared, **outcome, "models": models, "usage": usage})


def _asker(client: LLMClient, item: WorkItem, meter: Meter) -> Callable[[int, Session], Any]:
    """Make the function that asks an agent for its next action, again as long as the answer cannot be read."""

    async def ask(position: int, session: Session) -> Action:
        model, temperature = item.side(position)
        chat = chat_of(session, position, item.run.template)
        limit = AGENT_MAX_TOKENS if model.is_custom else None
        fault = ""
        for attempt in range(ANSWER_ATTEMPTS):
            seed = (item.seed + SEED_STEP * (len(session.actions) * ANSWER_ATTEMPTS + attempt)) % SEED_LIMIT
            sampling = Sampling(temperature, seed, limit, RESPONSE_SCHEMA, SCHEMA_NAME)
            reply = await client.complete(model, chat, sampling, affinity=f"{item.key.pk}/{position}")
            meter.add(f"agent_{position}", reply.usage)
            try:
                return parse_answer(reply.text)
            except AnswerError as err:
                fault = str(err)
        raise AnswerError(f"{model.name} gave no usable action in {ANSWER_ATTEMPTS} answers; the last: {fault}")

    return ask


async def _judged(client: LLMClient, evaluator: ModelSpec, meter: Meter, session: Session) -> dict[str, Any]:
    """Ask for the verdict on a session that is over, and give the fields of the episode that follow from it."""
    try:
        verdict = await evaluate(client, evaluator, session)
    except Unscored as err:
        meter.add("evaluator", err.usage)
        return {"status": "unscored", "failure": str(err)}
    meter.add("evaluator", verdict.usage)
    return {"status": "scored", "rewards": verdict.rewards, "reasoning": verdict.reasoning}


def _episode(item: WorkItem, meter: Meter, messages: Any, **outcome: Any) -> Episode:
    """Write what happened as a record."""
    models = [item.side(position)[0].name for position in (0, 1)]
    return Episode(
        environment=item.combo.environment,
        agents=list(item.combo.agents),
        tag=item.key.tag,
        models=[item.run.evaluator.name, *models],
        messages=messages,
        source_episode=item.source_episode,
        agent_position=item.agent_position,
        location=item.location,
        trial=item.key.trial,
        seed=item.seed,
        settings=item.run.settings(),
        usage=meter.record(),
        **{"status": "failed", **outcome},
    )
