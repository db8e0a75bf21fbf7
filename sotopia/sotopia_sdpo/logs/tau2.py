"""Read results of τ²-bench: one object with `info` of the whole run, and the `simulations`.

The agent's instructions are not among the messages; the policy that they are made of is, in `info`, and becomes the
system turn.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.logs.logged import Logged, Reader, fields_of, numbers, outcome, text_or_none, tools_of, whole_number
from sotopia_sdpo.logs.messages import Unusable
from sotopia_sdpo.logs.stream import members
from sotopia_sdpo.outcomes import Outcome


SIMULATIONS = "simulations"
ENDINGS = ("user_stop", "agent_stop")
"""How a simulation ends that is judged; any other has a reward of 0 that nobody gave."""


class Simulation(NamedTuple):
    """One simulation, with what is said of all."""

    info: dict[str, Any]
    fields: Any


def simulations(path: Path) -> Iterator[Simulation]:
    """Yield the simulations of a file, whose `info` may stand after them."""
    info = next((value for name, value in members(path, SIMULATIONS) if name == "info"), None)
    for name, value in members(path, SIMULATIONS):
        if name == SIMULATIONS:
            yield Simulation(info if isinstance(info, dict) else {}, value)


def logged(record: Simulation, _names: Sequence[str]) -> Logged:
    """Read one simulation.

    Raises:
        Unusable: if it has no task, no outcome, or was not judged.
    """
    run = fields_of(record.fields)
    if run.get("termination_reason", ENDINGS[0]) not in ENDINGS:
        raise Unusable(f"that were not judged ({run['termination_reason']})")
    if run.get("task_id") is None:
        raise Unusable("without a task")
    environment = _inside(record.info, "environment_info")
    policy = text_or_none(run.get("policy")) or text_or_none(environment.get("policy"))
    messages = [_message(one) for one in run["messages"]] if isinstance(run.get("messages"), list) else None
    if messages and policy:
        messages = [{"role": "system", "content": policy}, *messages]
    domain = text_or_none(environment.get("domain_name"))
    return Logged(
        messages,
        _outcomes(run.get("reward_info")),
        "/".join([*([domain] if domain else []), str(run["task_id"])]),
        whole_number(run.get("trial")),
        _tools(environment.get("tool_defs")),
        text_or_none(_inside(record.info, "agent_info").get("llm")),
    )


def _inside(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object that stands under a name, if there is one."""
    return fields[name] if isinstance(fields.get(name), dict) else {}


def _outcomes(reward_info: Any) -> list[Outcome]:
    """Return the reward, and those parts of it that are numbers."""
    if not isinstance(reward_info, dict):
        raise Unusable("without an outcome")
    parts = numbers(reward_info.get("reward_breakdown"), 0, 1)
    return [outcome("reward", reward_info.get("reward"), 0, 1), *(one for one in parts if one.name != "reward")]


def _message(message: Any) -> Any:
    """Return a message as OpenAI writes it, where a result names its call."""
    if not isinstance(message, dict):
        return message
    if message.get("is_audio"):
        raise Unusable("with content other than text")
    return {**message, "tool_call_id": message.get("id")} if message.get("role") == "tool" else message


def _tools(definitions: Any) -> list[dict[str, Any]] | None:
    """Return the descriptions of the agent's tools, where the log has them."""
    if not isinstance(definitions, dict):
        return tools_of(definitions)
    described = [
        {"name": name, "description": one.get("doc") or "", "parameters": one.get("params") or {}}
        for name, one in definitions.items()
        if isinstance(one, dict)
    ]
    return tools_of(described)


READER = Reader("tau2-bench", SIMULATIONS, simulations, logged)
