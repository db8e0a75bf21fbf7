"""Read logs of inspect_ai, `.eval` or JSON, with its own reader; an epoch of a sample is a trial of a task."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs.logged import Logged, Reader, numbers
from sotopia_sdpo.logs.messages import NOT_JSON, Unusable
from sotopia_sdpo.outcomes import Outcome


ZIP_MAGIC = b"PK"
"""How a `.eval` file begins."""
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Inspect's numbers for its grades (`value_to_float`); a text that is none of these is no score."""


class Sample(NamedTuple):
    """One sample, with what is said of all."""

    spec: Any
    fields: Any


def samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a log, with what it keeps aside put back.

    Raises:
        UserError: if inspect_ai is not installed, or cannot read the file.
    """
    try:
        from inspect_ai.log import read_eval_log, read_eval_log_sample, read_eval_log_sample_summaries
    except ImportError as err:
        raise UserError(
            f"{path}: a log of inspect_ai, which only that package can read; `pip install inspect_ai`"
        ) from err
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    name = str(path)
    try:
        if not is_zip:
            log = read_eval_log(name, resolve_attachments=True, format="json")
            yield from (Sample(log.eval, one) for one in log.samples or [])
            return
        spec = read_eval_log(name, header_only=True, format="eval").eval
        for one in read_eval_log_sample_summaries(name, format="eval"):
            found = read_eval_log_sample(name, one.id, one.epoch, resolve_attachments=True, format="eval")
            yield Sample(spec, found)
    except Exception as err:  # theirs: whatever a broken archive or an unknown version raises
        raise UserError(f"{path}: inspect_ai cannot read it ({err}); expected a log that it wrote") from err


def logged(record: Sample, _names: Sequence[str]) -> Logged:
    """Read one sample.

    Raises:
        Unusable: if it failed, or nothing scored it.
    """
    spec, sample = record
    if sample.error is not None:
        raise Unusable("whose run failed")
    outcomes = [one for name, score in (sample.scores or {}).items() for one in _outcomes(name, score.value)]
    if not outcomes:
        raise Unusable("without an outcome")
    return Logged(
        [_message(message.model_dump()) for message in sample.messages],
        outcomes,
        f"{spec.task}/{sample.id}",
        sample.epoch - 1,
        _tools(sample.events),
        spec.model,
    )


def _outcomes(scorer: str, value: Any) -> list[Outcome]:
    """Return the numbers of one scorer: one, or one for each name."""
    if isinstance(value, dict):
        return [one for name, part in value.items() for one in _outcomes(f"{scorer}/{name}", part)]
    if not isinstance(value, str):
        return numbers({scorer: value})
    grade = GRADES.get(value, GRADES.get(value.lower()) if value not in "CPIN" else None)
    return numbers({scorer: grade}, 0, 1)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as OpenAI writes it."""
    calls = message.get("tool_calls") or []
    if any(call.get("parse_error") for call in calls):
        raise Unusable(NOT_JSON)
    error = message.get("error")
    return {
        **message,
        "content": error["message"] if error else message["content"],
        "name": message.get("function"),
        "tool_calls": [{**call, "function": {**call, "name": call["function"]}} for call in calls],
    }


def _tools(events: Any) -> list[dict[str, Any]] | None:
    """Return the tools that the model was first given."""
    given = next((event.tools for event in events or [] if getattr(event, "event", None) == "model"), None)
    return [
        tool.model_dump(include={"name", "description", "parameters"}, exclude_none=True) for tool in given or []
    ] or None


READER = Reader("inspect", "eval", samples, logged)
