"""Have a session judged on SOTOPIA's seven dimensions.

Comes in: a session and an evaluator. Goes out: for both agents an integer inside its range with its reasoning on
every dimension, or an Unscored error that says what the evaluator's answers lacked.
Invariant: a judge's failure is never a score.
"""

from typing import Any, NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL, Dimension
from sotopia_sdpo.llm.backends import CallError
from sotopia_sdpo.llm.client import LLMClient, Sampling, reason_of
from sotopia_sdpo.llm.spec import ModelSpec
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.play.actions import NONE, AnswerError, find_object
from sotopia_sdpo.play.dialogue import Session
from sotopia_sdpo.play.stage import describe


AGENTS = ("agent_1", "agent_2")
EVALUATOR_TEMPERATURE = 0.0
EVALUATOR_MAX_TOKENS = 4096
EVALUATOR_ATTEMPTS = 4
SCHEMA_NAME = "evaluation"
PROMPT = "evaluator.txt"
HIDDEN = "Unknown"
ASK_AGAIN = "This cannot be used: {fault}. Reply again with the whole JSON object, in the form that was asked for."

Reward = tuple[float, dict[str, float]]


class Verdict(NamedTuple):
    """What the evaluator says of a session."""

    rewards: list[Reward]
    """By agent: the mean of the dimensions, and the dimensions with it, as upstream stores them."""
    reasoning: str
    usage: Usage


class Unscored(Exception):
    """The evaluator gave nothing that can be used; the session itself is fine."""

    def __init__(self, text: str, usage: Usage) -> None:
        """Keep what the attempts took."""
        super().__init__(text)
        self.usage = usage


async def evaluate(client: LLMClient, evaluator: ModelSpec, session: Session) -> Verdict:
    """Ask for a verdict; an answer that cannot be used is asked for again, with what is wrong with it.

    Raises:
        Unscored: when no attempt gave a usable verdict, or the evaluator cannot be called.
    """
    chat = [{"role": "user", "content": evaluation_prompt(session)}]
    usage, fault = Usage(), ""
    limit = EVALUATOR_MAX_TOKENS if evaluator.is_custom else None
    sampling = Sampling(EVALUATOR_TEMPERATURE, max_tokens=limit, schema=response_schema(), schema_name=SCHEMA_NAME)
    for _ in range(EVALUATOR_ATTEMPTS):
        try:
            reply = await client.complete(evaluator, chat, sampling)
        except CallError as err:
            raise Unscored(f"the evaluator could not be called: {reason_of(err)}", usage) from err
        usage = usage.plus(reply.usage)
        try:
            rewards, reasoning = read_verdict(reply.text)
            return Verdict(rewards, reasoning, usage)
        except AnswerError as err:
            fault = str(err)
        again = ASK_AGAIN.format(fault=fault)
        chat = [chat[0], {"role": "assistant", "content": reply.text}, {"role": "user", "content": again}]
    raise Unscored(f"no usable verdict in {EVALUATOR_ATTEMPTS} answers; the last: {fault}", usage)


def evaluation_prompt(session: Session) -> str:
    """Write the evaluator's prompt."""
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
    """Name the evaluator's wording, so that runs with different ones are not mixed."""
    return prompts.fingerprint(prompts.read(PROMPT))


def history(session: Session) -> str:
    """Tell a session turn by turn; turns in which nothing was done are left out."""
    lines = []
    for turn, action in enumerate(session.actions):
        if action != NONE:
            lines.append(f"Turn #{turn + 1}\n{session.names[turn % 2]} {action.to_text()}")
    return "\n".join(lines)


def merged_background(session: Session) -> str:
    """Put together what both agents know: what the first one's view hides stands in the second one's."""
    first, second = session.backgrounds
    labels = [f"{name}'s {part}: " for name in session.names for part in ("background", "goal")]
    for label in labels:
        if f"{label}{HIDDEN}" in first and label in second:
            rest = second.split(label, 1)[1]
            ends = [rest.find(f"\n{other}") for other in labels if f"\n{other}" in rest]
            first = first.replace(f"{label}{HIDDEN}", label + rest[: min(ends, default=len(rest))].rstrip(), 1)
    return first


def response_schema() -> dict[str, Any]:
    """Give the JSON schema of a verdict."""

    def strict(properties: dict[str, Any]) -> dict[str, Any]:
        return dict(type="object", properties=properties, required=list(properties), additionalProperties=False)

    verdict = strict(
        {d.name: strict({"reasoning": {"type": "string"}, "score": {"type": "integer"}}) for d in DIMENSIONS}
    )
    return strict(dict.fromkeys(AGENTS, verdict))


def read_verdict(text: str) -> tuple[list[Reward], str]:
    """Read an evaluator's answer.

    Raises:
        AnswerError: if a verdict, a dimension or a reasoning is missing, or a score is no integer inside its range.
    """
    found = find_object(text, AGENTS[0])
    rewards, parts = [], []
    for number, agent in enumerate(AGENTS, start=1):
        if not isinstance(found.get(agent), dict):
            raise AnswerError(f"{agent} is missing")
        scores, lines = {}, []
        for dimension in DIMENSIONS:
            reason, scores[dimension.name] = _read_dimension(agent, found[agent].get(dimension.name), dimension)
            lines.append(f"{dimension.name}: {reason}")
        overall = sum(scores.values()) / len(scores)
        rewards.append((overall, {**scores, OVERALL: overall}))
        parts.append(f"Agent {number} comments:\n" + "\n".join(lines) + "\n")
    return rewards, "".join(parts)


def _read_dimension(agent: str, found: Any, dimension: Dimension) -> tuple[str, float]:
    """Read the reasoning and the score of one dimension."""
    where = f"{agent}.{dimension.name}"
    if not isinstance(found, dict) or "score" not in found:
        raise AnswerError(f"{where} is missing its score")
    reason, score = found.get("reasoning"), found["score"]
    if not isinstance(score, int) or isinstance(score, bool) or not dimension.low <= score <= dimension.high:
        raise AnswerError(f"{where}.score is {score!r}, expected an integer from {dimension.low} to {dimension.high}")
    if not isinstance(reason, str) or not reason.strip():
        raise AnswerError(f"{where}.reasoning is missing")
    return reason.strip(), float(score)
