"""What comes back from a model, and reading a JSON object out of it."""

from typing import Any, NamedTuple

from sotopia_sdpo.llm.json_text import first_object
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
    found = first_object(text, field)
    if found is None:
        raise AnswerError(f"no JSON object with {field!r} in {text[:80]!r}")
    return found
