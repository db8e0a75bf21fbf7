"""What comes back from a model, and reading a JSON object out of it."""

import json
from typing import Any, NamedTuple

from sotopia_sdpo.llm.usage import Usage


class Answer(NamedTuple):
    """A model's answer."""

    text: str
    usage: Usage
    is_simulated: bool = False
    """Whether a scripted server gave it."""


class AnswerError(ValueError):
    """An answer is not what was asked for; the text says what is wrong with it."""


def find_object(text: str, field: str) -> dict[str, Any]:
    """Find the first JSON object with this field in a text that may hold more than it.

    Raises:
        AnswerError: if there is none.
    """
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # also a number without end, or braces without end
            found = None
        if isinstance(found, dict) and field in found:
            return found
        start = text.find("{", start + 1)
    raise AnswerError(f"no JSON object with {field!r} in {text[:80]!r}")
