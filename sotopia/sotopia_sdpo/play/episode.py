"""Play one session: replay what is given, then let two models act to the end.

Comes in: a stage, two players, and what decides their draws. Goes out: what was said, and why it broke off if
it did; never an exception for what a model or a server did.
"""

from collections.abc import Callable
from typing import NamedTuple

from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.llm.ask import unchanged, until_usable
from sotopia_sdpo.llm.backends import CallError, Unreachable
from sotopia_sdpo.llm.client import Chat, LLMClient, Sampling
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.usage import Meter
from sotopia_sdpo.play.actions import RESPONSE_SCHEMA, Action, parse_answer
from sotopia_sdpo.play.dialogue import Session, chat_of
from sotopia_sdpo.play.script import Script
from sotopia_sdpo.play.taking_turns import Messages, Stage, run


ANSWER_ATTEMPTS = 6
AGENT_MAX_TOKENS = 512
"""For local servers, where a model that never ends would hold a slot; others may think before they answer."""
SCHEMA_NAME = "action"
SEED_STEP = 7919
"""Keeps the seeds of an episode's turns and attempts apart."""
SEED_LIMIT = 2**31

# What upstream raises on a profile that it cannot render: its own checks, pydantic's, lxml's.
RESET_ERRORS = (ValueError, AssertionError, SyntaxError, LookupError)


class Played(NamedTuple):
    """A session that is over, or broke off."""

    messages: Messages
    session: Session | None
    """None where it broke off."""
    failure: str = ""
    is_unreachable: bool = False
    """Whether it broke off because a server was not there."""


async def play(client: LLMClient, reset: Callable[[], Stage], script: Script, meter: Meter) -> Played:
    """Play a session from its start, or from where its history ends.

    Args:
        client: calls the models.
        reset: makes the stage of a session in which nobody has acted.
        script: decides how the session goes.
        meter: counts what the calls took.
    """
    try:
        stage = reset()
    except RESET_ERRORS as err:
        return Played([], None, f"upstream cannot set the stage: {reason_of(err)}")

    async def choose(position: int, session: Session) -> Action:
        return await next_action(client, script, position, session, meter)

    try:
        await run(stage, choose, script.history)
    except (CallError, ValueError) as err:
        return Played(stage.messages, None, reason_of(err), isinstance(err, Unreachable))
    return Played(stage.messages, stage.session)


async def next_action(client: LLMClient, script: Script, position: int, session: Session, meter: Meter) -> Action:
    """Ask an agent for its next action, with another seed as long as its answer cannot be read.

    Raises:
        AnswerError: when the attempts are used up; a CallError of the client goes through.
    """
    player = script.players[position]
    model = player.model
    limit = AGENT_MAX_TOKENS if model.is_custom else None

    async def send(chat: Chat, attempt: int) -> str:
        seed = (script.seed + SEED_STEP * (len(session.actions) * ANSWER_ATTEMPTS + attempt)) % SEED_LIMIT
        form = RESPONSE_SCHEMA, SCHEMA_NAME
        sampling = Sampling(player.temperature, seed, limit, *form, player.top_p, player.top_k)
        answer = await client.complete(model, chat, sampling, affinity=f"{script.affinity}/{position}")
        meter.add(f"agent_{position}", answer.usage)
        return answer.text

    try:
        chat = chat_of(session, position, script.template)
        return await until_usable(send, client.counting(model, parse_answer), chat, unchanged, ANSWER_ATTEMPTS)
    except AnswerError as err:
        fault = f"{model.name} gave no usable action in {ANSWER_ATTEMPTS} answers; the last: {err}"
        raise AnswerError(fault) from err
