"""Judge a session on SOTOPIA's seven dimensions, by a model.

Comes in: a session and an evaluator. Goes out: for both agents an integer inside its range with its reasoning on
every dimension, or what the evaluator's answers lacked.
Invariant: a judge's failure is never a score.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL, Dimension
from sotopia_sdpo.llm.answers import AnswerError, as_integer, find_object
from sotopia_sdpo.llm.ask import until_usable, with_fault
from sotopia_sdpo.llm.backends import CallError, Unreachable
from sotopia_sdpo.llm.client import Chat, LLMClient, Sampling
from sotopia_sdpo.llm.redact import reason_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Meter, Usage
from sotopia_sdpo.play.actions import NONE
from sotopia_sdpo.play.dialogue import Session
from sotopia_sdpo.play.stage import describe
from sotopia_sdpo.store.episode import Reward


AGENTS = ("agent_1", "agent_2")
EVALUATOR_TEMPERATURE = 0.0
EVALUATOR_MAX_TOKENS = 4096
EVALUATOR_ATTEMPTS = 4
SCHEMA_NAME = "evaluation"
PROMPT = "evaluator.txt"
HIDDEN = "Unknown"
METERED_AS = "evaluator"


class Verdict(NamedTuple):
    """What the evaluator says of a session, or why it says nothing that can be used."""

    rewards: list[Reward] = []
    """By agent: the mean of the dimensions, and the dimensions with it, as upstream stores them."""
    reasoning: str = ""
    failure: str = ""
    """Why there are no scores; the session itself is fine."""
    is_unreachable: bool = False
    """Whether that is because the evaluator's server was not there."""

    def fields(self) -> dict[str, Any]:
        """Return what an episode stores of it."""
        status = "unscored" if self.failure else "scored"
        return dict(status=status, failure=self.failure, rewards=self.rewards, reasoning=self.reasoning)


async def evaluate(client: LLMClient, evaluator: ModelSpec, session: Session, meter: Meter) -> Verdict:
    """Return the evaluator's verdict; an answer that cannot be used is put back to it with what is wrong."""
    limit = EVALUATOR_MAX_TOKENS if evaluator.is_custom else None
    sampling = Sampling(EVALUATOR_TEMPERATURE, max_tokens=limit, schema=response_schema(), schema_name=SCHEMA_NAME)
    meter.add(METERED_AS, Usage())  # also where no call succeeds

    async def send(chat: Chat, _: int) -> str:
        answer = await client.complete(evaluator, chat, sampling)
        meter.add(METERED_AS, answer.usage)
        return answer.text

    def again(chat: Chat, text: str, fault: str) -> Chat:
        return with_fault(chat[:1], text, fault)  # the last answer alone: each is a thousand tokens

    try:
        chat = [{"role": "user", "content": evaluation_prompt(session)}]
        read = client.counting(evaluator, partial(read_verdict, names=session.names))
        return await until_usable(send, read, chat, again, EVALUATOR_ATTEMPTS)
    except CallError as err:
        fault = f"the evaluator could not be called: {reason_of(err)}"
        return Verdict(failure=fault, is_unreachable=isinstance(err, Unreachable))
    except AnswerError as err:
        return Verdict(failure=f"no usable verdict in {EVALUATOR_ATTEMPTS} answers; the last: {err}")


def evaluation_prompt(session: Session) -> str:
    """Return the evaluator's prompt."""
    listed = [f"- {d.name} (integer from {d.low} to {d.high}): {describe(d.name)}" for d in DIMENSIONS]
    values = {
        "background": merged_background(session),
        "history": history(session),
        "agent_1": session.names[0],
        "agent_2": session.names[1],
        "dimensions": "\n".join(listed),
        "names": ", ".join(f'"{d.name}"' for d in DIMENSIONS),
    }
    return prompts.fill(prompts.read(PROMPT), values)


def template_hash() -> str:
    """Return a hash of the evaluator's wording, so that runs with different ones are not mixed."""
    return prompts.fingerprint(prompts.read(PROMPT))


def history(session: Session) -> str:
    """Write a session turn by turn; turns in which nothing was done are left out."""
    lines = []
    for turn, action in enumerate(session.actions):
        if action != NONE:
            lines.append(f"Turn #{turn + 1}\n{session.names[turn % 2]} {action.to_text()}")
    return "\n".join(lines)


def merged_background(session: Session) -> str:
    """Return what both agents know together: what the first one's view hides stands in the second one's."""
    first, second = session.backgrounds
    labels = [f"{name}'s {part}: " for name in session.names for part in ("background", "goal")]
    for label in labels:
        if f"{label}{HIDDEN}" in first and label in second:
            rest = second.split(label, 1)[1]
            ends = [rest.find(f"\n{other}") for other in labels if f"\n{other}" in rest]
            first = first.replace(f"{label}{HIDDEN}", label + rest[: min(ends, default=len(rest))].rstrip(), 1)
    return first


def response_schema() -> dict[str, Any]:
    """Return the JSON schema of a verdict."""

    def strict(properties: dict[str, Any]) -> dict[str, Any]:
        return dict(type="object", properties=properties, required=list(properties), additionalProperties=False)

    verdict = strict(
        {d.name: strict({"reasoning": {"type": "string"}, "score": {"type": "integer"}}) for d in DIMENSIONS}
    )
    return strict(dict.fromkeys(AGENTS, verdict))


def read_verdict(text: str, names: tuple[str, ...] = ()) -> Verdict:
    """Read an evaluator's answer, which may call the agents by their names.

    Raises:
        AnswerError: if a verdict, a dimension or a reasoning is missing, or a score is no integer inside its range.
    """
    called = [_plain(name) for name in names]
    by_key = {**(dict(zip(called, AGENTS, strict=True)) if len(set(called)) == 2 else {}), **_keys(AGENTS)}

    def spelled(key: str) -> str:
        return by_key.get(_plain(key), key)

    found = _respelled(find_object(text, AGENTS[0], spelled), spelled)
    rewards: list[Reward] = []
    parts = []
    for number, agent in enumerate(AGENTS, start=1):
        if not isinstance(found.get(agent), dict):
            raise AnswerError(f"{agent} is missing")
        scores, reasons = _read_agent(agent, found[agent])
        overall = sum(scores.values()) / len(scores)
        rewards.append((overall, {**scores, OVERALL: overall}))
        parts.append(f"Agent {number} comments:\n" + "\n".join(reasons) + "\n")
    return Verdict(rewards, "".join(parts))


def _read_agent(agent: str, found: dict[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Read the scores of one agent, and a line with the reasoning for each."""
    by_key = _keys([dimension.name for dimension in DIMENSIONS])
    found = _respelled(found, lambda key: by_key.get(_plain(key), key))
    scores, lines = {}, []
    for dimension in DIMENSIONS:
        reason, scores[dimension.name] = _read_dimension(agent, found.get(dimension.name), dimension)
        lines.append(f"{dimension.name}: {reason}")
    return scores, lines


def _read_dimension(agent: str, found: Any, dimension: Dimension) -> tuple[str, float]:
    """Read the reasoning and the score of one dimension."""
    where = f"{agent}.{dimension.name}"
    if not isinstance(found, dict) or "score" not in found:
        raise AnswerError(f"{where} is missing its score")
    reason, score = found.get("reasoning"), as_integer(found["score"])
    if score is None or not dimension.low <= score <= dimension.high:
        expected = f"expected an integer from {dimension.low} to {dimension.high}"
        raise AnswerError(f"{where}.score is {found['score']!r:.40}, {expected}")
    if not isinstance(reason, str) or not reason.strip():
        raise AnswerError(f"{where}.reasoning is missing")
    return reason.strip(), float(score)


def _plain(key: str) -> str:
    """Return a key without what is only spelling: "Agent 1" and "agent_1" are one."""
    return "".join(filter(str.isalnum, key)).casefold()


def _keys(names: Sequence[str]) -> dict[str, str]:
    """Return names by their plain form."""
    return {_plain(name): name for name in names}


def _respelled(found: dict[str, Any], spelled: Callable[[str], str]) -> dict[str, Any]:
    """Return an object under the keys that are meant.

    Raises:
        AnswerError: if two of its keys are the same.
    """
    meant = {spelled(key): value for key, value in found.items()}
    if len(meant) < len(found):
        raise AnswerError(f"two of the keys {', '.join(found)} mean the same")
    return meant
