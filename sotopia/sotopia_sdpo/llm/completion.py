"""Read a chat completion: its text and what it took.

Comes in: parts of a response as they were decoded. Goes out: text that any database takes, and a Usage without a cost.
"""

from typing import Any

from sotopia_sdpo.llm.answers import as_integer
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.text import whole_text


TEXT_PARTS = (None, "text", "output_text")
MOST_TOKENS = 10**12
"""No answer takes more; a database would not hold it."""


def text_of(content: Any) -> str:
    """Return the text of a message, whose content may be a list of parts; parts with thoughts are left out.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(content, list):
        return "".join(map(_text_of_part, content))
    if not isinstance(content, str | None):
        raise TypeError(f"content is {str(content)[:80]!r}, expected a text or a list of parts")
    return str(whole_text(content or ""))


def _text_of_part(part: Any) -> str:
    """Return the text of one part."""
    if isinstance(part, str):
        return text_of(part)
    if not isinstance(part, dict):
        raise TypeError(f"a part of the content is {str(part)[:80]!r}")
    is_text = part.get("type") in TEXT_PARTS and not part.get("thought")
    return text_of(part.get("text")) if is_text else ""


def usage_of(found: Any) -> Usage:
    """Return the usage of one answer; a number of tokens that is not said, or makes no sense, is unknown."""
    counts = found if isinstance(found, dict) else {}
    prompt, completion = (as_integer(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    # No prompt has 0 tokens.
    if prompt is None or completion is None or not (0 < prompt < MOST_TOKENS and 0 <= completion < MOST_TOKENS):
        return Usage(1, None, None, None)
    return Usage(1, prompt, completion, None)


def prompt_log_probs_of(found: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the log-probabilities of the prompt's tokens but the first, in vLLM's form; None where there are none.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: if they are in another form.
    """
    tokens = found.get("prompt_logprobs")
    if tokens is None:
        return None
    # Without alternatives, a token has one entry: its own.
    return tuple(float(next(iter(token.values()))["logprob"]) for token in tokens[1:])
