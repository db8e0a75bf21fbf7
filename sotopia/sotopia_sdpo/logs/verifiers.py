"""Read results of verifiers, as `vf-eval` writes them: results.jsonl, with metadata.json beside it.

A line has `prompt` and `completion`, lists of messages whose calls are written as JSON texts, the `reward`, `metrics`,
and `example_id`; which of an example's rollouts it is, no field says.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.logs.logged import Logged, Reader, fields_of, numbers, outcome, text_or_none, tools_of
from sotopia_sdpo.logs.messages import NOT_JSON, Unusable
from sotopia_sdpo.logs.stream import members, records


METADATA = "metadata.json"


class Rollout(NamedTuple):
    """One line, with what is said of all."""

    metadata: dict[str, Any]
    fields: Any


def rollouts(path: Path) -> Iterator[Rollout]:
    """Yield the lines of a file with its metadata, where these are there."""
    beside = path.parent / METADATA
    metadata = dict(members(beside, streamed="")) if beside.is_file() else {}
    return (Rollout(metadata, one) for one in records(path))


def logged(record: Rollout, names: Sequence[str]) -> Logged:
    """Read one rollout.

    Raises:
        Unusable: if it failed, or is no chat, or has no reward.
    """
    metadata, rollout = record.metadata, fields_of(record.fields)
    if rollout.get("error"):
        raise Unusable("whose run failed")
    if rollout.get("example_id") is None:
        raise Unusable("without a task")
    known = metadata["avg_metrics"] if isinstance(metadata.get("avg_metrics"), dict) else {}
    metrics = rollout.get("metrics") or {name: rollout.get(name) for name in known}
    reward = outcome("reward", rollout.get("reward"))
    env = text_or_none(metadata.get("env_id"))
    return Logged(
        [*_messages(rollout.get("prompt")), *_messages(rollout.get("completion"))],
        [reward, *(one for one in numbers(metrics) if one.name != reward.name)],
        "/".join([*([env] if env else []), str(rollout["example_id"])]),
        tools=tools_of(rollout.get("tool_defs")) or tools_of(metadata.get("tools")),
        agent_model=text_or_none(metadata.get("model")),
    )


def _messages(part: Any) -> list[Any]:
    """Return the messages of a prompt or a completion."""
    if isinstance(part, str):
        raise Unusable("that are text to complete, not a chat")
    return [_message(one) for one in part] if isinstance(part, list) else []


def _message(message: Any) -> Any:
    """Return a message with its calls as objects."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if not isinstance(calls, list):
        return message
    try:
        return {**message, "tool_calls": [json.loads(one) if isinstance(one, str) else one for one in calls]}
    except (ValueError, RecursionError) as err:
        raise Unusable(NOT_JSON) from err


READER = Reader("verifiers", "completion", rollouts, logged)
