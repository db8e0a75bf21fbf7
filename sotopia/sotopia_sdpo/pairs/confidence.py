"""Locate the turn of which the agent itself was least sure, by its log-probabilities of what it said.

Comes in: negatives, and the agent behind a server that gives log-probabilities of prompts, as vLLM does. Goes out: for
each the mean log-probability per token of every turn of the agent's, given all before it. The tokens of a turn are
those by which the chat with it is longer than the prompt for it, the mark of its end among them.
"""

from collections.abc import Sequence

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.backends import CallError, Transient
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.pairs.continuations import Side, agent_turns
from sotopia_sdpo.pairs.locate import with_location
from sotopia_sdpo.pairs.records import LocatedLog, LocatedSide
from sotopia_sdpo.play.dialogue import Message
from sotopia_sdpo.run.flight import SERVER_GONE, Flight, run_loop, stop_on_signals


ROLES = {"system": "system", "human": "user", "gpt": "assistant"}
PROMPT_ONLY = Sampling(0.0, max_tokens=1)
OF_PROMPT = Sampling(0.0, max_tokens=1, of_prompt=True)


def log_probs_of(sides: Sequence[Side], model: ModelSpec, limits: Limits) -> list[list[float] | str]:
    """Return for each dialogue the mean log-probability per token of the agent's turns, or why there are none.

    Raises:
        UserError: if the server gives none, or a dialogue has calls of tools.
        KeyboardInterrupt: if a signal has stopped it.
    """
    return run_loop(_all(sides, model, limits))


async def _all(sides: Sequence[Side], model: ModelSpec, limits: Limits) -> list[list[float] | str]:
    found: list[list[float] | str] = [f"not asked: {SERVER_GONE}"] * len(sides)
    left, flight = list(reversed(range(len(sides)))), Flight(limits.concurrency)
    stop_on_signals()
    async with LLMClient(limits) as client:

        async def take() -> int | None:
            return left.pop() if left and not flight.stopped_because else None

        async def one(number: int) -> None:
            chat, turns = chat_of(sides[number]), agent_turns(sides[number])
            try:
                found[number] = [await _mean(client, model, chat[: turn + 1]) for turn in turns]
            except CallError as err:
                found[number] = reason_of(err)
                flight.count(is_gone=isinstance(err, Transient))
            else:
                flight.count(is_gone=False)

        await flight.run(take, one)
    return found


def chat_of(side: Side) -> list[Message]:
    """Return a dialogue as the agent's chat.

    Raises:
        UserError: if it has calls of tools, which every model writes in its own way.
    """
    if wrong := next((turn["from"] for turn in side.conversations if turn["from"] not in ROLES), None):
        raise UserError(f"{side.name}: it has a {wrong!r} turn; log-probabilities are only of dialogues without tools")
    return [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in side.conversations]


async def _mean(client: LLMClient, model: ModelSpec, chat: list[Message]) -> float:
    """Return the mean log-probability of the tokens of the last turn."""
    before = (await client.complete(model, chat[:-1], PROMPT_ONLY)).usage.prompt_tokens
    log_probs = (await client.complete(model, chat, OF_PROMPT)).prompt_log_probs
    if before is None or log_probs is None or len(log_probs) < before:
        raise UserError(f"{model.name} gives no log-probabilities of prompts (prompt_logprobs); vLLM does")
    # The first token of all has none, so that of the token at an index is one place before it.
    own = log_probs[before - 1 :]
    return sum(own) / len(own)


def least_sure(negative: Side, log_probs: Sequence[float]) -> LocatedSide | LocatedLog:
    """Locate the turn of the lowest mean log-probability, the earliest among equals."""
    lowest = min(log_probs)
    reason = f"mean log-probability {lowest:.2f} a token, the lowest of {len(log_probs)} turns"
    location = agent_turns(negative)[list(log_probs).index(lowest)]
    return with_location(negative, location, reason, log_probs=[round(one, 4) for one in log_probs])
