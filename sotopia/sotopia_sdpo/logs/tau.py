"""Read results of τ-bench: a list of runs with `task_id`, `trial`, `reward`, `info` and the messages, `traj`."""

import re
from collections.abc import Sequence
from typing import Any

from sotopia_sdpo.logs.logged import Logged, Reader, fields_of, outcome, text_or_none, whole_number
from sotopia_sdpo.logs.messages import Unusable
from sotopia_sdpo.logs.stream import records


DOMAIN = re.compile(r"#\s*(\w+) agent policy", re.I)
"""How the agent's instructions begin, which alone say what the tasks are about."""


def logged(record: Any, _names: Sequence[str]) -> Logged:
    """Read one run.

    Raises:
        Unusable: if it has no reward, or no dialogue: then it failed, and its reward is none of the agent's.
    """
    run = fields_of(record)
    messages, info = run.get("traj"), run.get("info")
    if not messages:
        raise Unusable("without messages")
    if run.get("task_id") is None:
        raise Unusable("without a task")
    task = info.get("task") if isinstance(info, dict) else None
    return Logged(
        messages,
        [outcome("reward", run.get("reward"), 0, 1)],
        "/".join([*_domain(messages), str(run["task_id"])]),
        whole_number(run.get("trial")),
        asked=text_or_none(task.get("instruction")) if isinstance(task, dict) else None,
    )


def _domain(messages: Any) -> list[str]:
    """Return the domain, where the instructions name it."""
    first = messages[0].get("content") if isinstance(messages, list) and isinstance(messages[0], dict) else None
    found = DOMAIN.match(first) if isinstance(first, str) else None
    return [found[1].lower()] if found else []


READER = Reader("tau-bench", "traj", records, logged)
