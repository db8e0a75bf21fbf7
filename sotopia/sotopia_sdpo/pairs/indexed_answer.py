"""The form of an annotator's answer: indices of turns, and the reason for them."""

from typing import Any, NamedTuple

from sotopia_sdpo.llm.answers import AnswerError, as_integer, find_object
from sotopia_sdpo.text import whole_text


REASON = "reason"


class IndexedAnswer(NamedTuple):
    """An answer that has the form; whether its indices make sense depends on the question."""

    indices: tuple[int, ...]
    reason: str


def answer_schema(*names: str) -> dict[str, Any]:
    """Return the JSON schema of an answer; the reason comes first, so that a model thinks before it chooses."""
    properties = {REASON: {"type": "string"}, **{name: {"type": "integer"} for name in names}}
    return dict(type="object", properties=properties, required=list(properties), additionalProperties=False)


def read_answer(text: str, *names: str) -> IndexedAnswer:
    """Read an answer; a code fence or a sentence around the object does no harm.

    Raises:
        AnswerError: if an index is missing or no integer, or there is no reason.
    """
    found = find_object(text, names[-1])
    indices = []
    for name in names:
        if (index := as_integer(found.get(name))) is None:
            raise AnswerError(f"{name} is {found.get(name)!r}, expected an integer")
        indices.append(index)
    reason = found.get(REASON)
    if not isinstance(reason, str) or not reason.strip():
        raise AnswerError(f"{REASON} is missing, expected a text")
    return IndexedAnswer(tuple(indices), whole_text(" ".join(reason.split())))
