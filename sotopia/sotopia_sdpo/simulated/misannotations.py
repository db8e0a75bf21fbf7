"""Spoil a right annotation in the ways that models do, or only wrap it so that a careless reader misses it.

Comes in: a job and a source of draws. Goes out: the text that is given instead of the right answer.
Invariant: every way that a job leaves room for is as likely as any other, and none gives the right answer's own text.
"""

import json
from collections.abc import Callable
from typing import Any

from sotopia_sdpo.simulated.annotator import AnnotationJob, annotate
from sotopia_sdpo.simulated.draws import Draw


Annotation = dict[str, Any]
Way = Callable[[AnnotationJob, Annotation, Draw], Annotation | str]
REFUSAL = "I am sorry, but I would rather not judge the people in this conversation."


def misannotate(job: AnnotationJob, draw: Draw) -> str:
    """Write a wrong answer, in a way that is drawn."""
    found = WAYS[_pick(ways_of(job), draw, "annotation way")](job, annotate(job), draw)
    return found if isinstance(found, str) else json.dumps(found)


def ways_of(job: AnnotationJob) -> list[str]:
    """List the ways that a job leaves room for."""
    impossible = set() if job.start is not None else {"partner's end"}
    if len(job.agent_indices) < 2:
        impossible.add("another turn")
    return [way for way in WAYS if way not in impossible]


def _outside(job: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    last = job.turns[-1].number
    return {**right, _last_key(right): _pick([last + 1, last + 2, -1], draw, "outside")}


def _partners_turn(job: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    """Point at a turn of the partner's; the first human turn stands before the first line and counts as one."""
    key = _first_key(right)
    found = [job.turns[0].number - 1, *_partner_indices(job)]
    inside = [i for i in found if i != right[key] and i <= right.get("end_index", i)]
    return {**right, key: _pick(inside, draw, "partner's")}


def _partners_end(job: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    start = right["start_index"]
    found = [i for i in _partner_indices(job) if i >= start] or [start - 1]
    return {**right, "end_index": _pick(found, draw, "partner's")}


def _another_turn(job: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    key, last = _first_key(right), _last_key(right)
    found = _pick([i for i in job.agent_indices if i != right[key]], draw, "another")
    # A start behind the end takes the end with it, so that nothing else is wrong; of one index only the last counts.
    return {**right, last: max(found, right[last]), key: found}


def _prose(_: AnnotationJob, right: Annotation, draw: Draw) -> str:
    before = _pick(["Let us look at this step by step.", "Sure! Here is my answer:"], draw, "prose")
    return f"{before}\n\n```json\n{json.dumps(right, indent=2)}\n```\n\nI hope that this helps."


def _braces(_: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    return {**right, "reason": right["reason"] + _pick([" {like this}", " (a lone } here)", " {"], draw, "braces")}


def _refusal(_: AnnotationJob, __: Annotation, ___: Draw) -> str:
    return REFUSAL


def _no_index(_: AnnotationJob, right: Annotation, __: Draw) -> Annotation:
    return {key: value for key, value in right.items() if key != _last_key(right)}


def _index_as_text(_: AnnotationJob, right: Annotation, draw: Draw) -> Annotation:
    key = _last_key(right)
    return {**right, key: _pick([f"turn {right[key]}", str(right[key]), None], draw, "text")}


def _truncated(_: AnnotationJob, right: Annotation, draw: Draw) -> str:
    text = json.dumps(right)
    return text[: 1 + int(draw("cut") * (len(text) - 1))]


WAYS: dict[str, Way] = {
    "outside": _outside,
    "partner's turn": _partners_turn,
    "partner's end": _partners_end,
    "another turn": _another_turn,
    "prose": _prose,
    "braces": _braces,
    "refusal": _refusal,
    "no index": _no_index,
    "index as text": _index_as_text,
    "truncated": _truncated,
}


def _first_key(right: Annotation) -> str:
    """Name the index that says where: the only one, or the start."""
    return "index" if "index" in right else "start_index"


def _last_key(right: Annotation) -> str:
    """Name the index that stands last: the only one, or the end."""
    return "index" if "index" in right else "end_index"


def _partner_indices(job: AnnotationJob) -> list[int]:
    return [turn.number for turn in job.turns if not turn.is_agent]


def _pick(found: list[Any], draw: Draw, label: str) -> Any:
    return found[int(draw(label) * len(found))]
