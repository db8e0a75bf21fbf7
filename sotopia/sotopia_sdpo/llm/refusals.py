"""Find out which settings of a request a server does not take.

Comes in: an error, and what was sent. Goes out: names of settings. Invariant: a setting is named only where the error
says in its own words that it, or its value, is not supported. A word of the dialogue that it quotes does not say so,
nor does a context that is full.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


STATUSES = frozenset({400, 422})
UNEXPLAINED = frozenset({400, 404, 422})
"""What servers answer to a form of the answer that they cannot give, without saying so."""
FORM = "response_format"
LENGTH, NEW_LENGTH = "max_tokens", "max_completion_tokens"
UNSUPPORTED = re.compile(
    r"unsupported|(?:not|n't) (?:yet |currently )?(?:be )?(?:support|permitted|allowed|implemented|available|accepted)"
    r"|unavailable|unknown|unrecogni[sz]ed|unexpected|extra_forbidden|deprecated|only the default|no longer"
    r"|cannot be (?:used|set|specified)|forbidden|not a valid|invalid (?:parameter|argument|field)",
    re.IGNORECASE,
)
WRONG_VALUE = re.compile(r"(?:must|should) be|greater than|less than|range", re.IGNORECASE)
TOO_LONG_AN_ANSWER = re.compile(r"(?:output|completion) tokens", re.IGNORECASE)
CONTEXT_IS_FULL = re.compile(
    r"context.?(?:length|window|size)|maximum context|input tokens|prompt (?:is|tokens)|too long|sequence length",
    re.IGNORECASE,
)
TEXT_IS_UNWANTED = re.compile(r"content.?(?:filter|management|policy)|filtered|moderation|safety", re.IGNORECASE)
ANSWER_WAS_CUT = re.compile(r"could not finish the message", re.IGNORECASE)
OTHER_NAMES = re.compile(
    r"did you mean|expected one of|(?<!un)(?:supported|allowed|valid|known) \w+ (?:are|include)\b",
    re.IGNORECASE,
)
"""Behind these words stand settings that the server does take."""
SENTENCE = re.compile(r"(?<=[.;!?])\s+|\n+")
SPELLINGS = {FORM: r"response[_ ]format|json_schema|structured outputs?|guided[_ ]\w+"}
WORD = re.compile(r"\w+")
ESCAPED = re.compile(r"\\+[nrt]")
QUOTED_WORDS = 5
"""As many words in a row that the dialogue has as well are quoted from it."""


def refused_settings(
    status: int, body: str, fields: Mapping[str, Any], chat: Sequence[Mapping[str, str]]
) -> list[str]:
    """Return the names of the request's fields that the error body says are not supported."""
    if status not in STATUSES or CONTEXT_IS_FULL.search(body) or TEXT_IS_UNWANTED.search(body):
        return []
    quotable = _runs_of_words(chat)
    said = [(_without_quotes(text, quotable), about) for text, about in _sayings(_read(body), fields)]
    return [name for name in fields if any(_refuses(name, text, about) for text, about in said)]


def is_unexplained(status: int, body: str) -> bool:
    """Return whether a request was refused for a reason that is not its text; it may be the form of the answer."""
    return status in UNEXPLAINED and not CONTEXT_IS_FULL.search(body) and not TEXT_IS_UNWANTED.search(body)


def is_of_this_request(status: int, body: str) -> bool:
    """Return whether the text of a request, or the length of its answer, was refused; another one may be answered."""
    return status in STATUSES and any(
        reason.search(body) for reason in (CONTEXT_IS_FULL, TEXT_IS_UNWANTED, ANSWER_WAS_CUT)
    )


def _refuses(name: str, text: str, about: str) -> bool:
    """Return whether a text refuses a setting; `about` is the setting that its error is marked with, if any."""
    if about:
        return about == name and _is_refusal(name, text)
    spelling = re.compile(rf"(?<!\w)(?:{SPELLINGS.get(name, re.escape(name))})(?!\w)", re.IGNORECASE)
    sentences = (OTHER_NAMES.split(sentence)[0] for sentence in SENTENCE.split(text))
    return any(spelling.search(sentence) and _is_refusal(name, sentence) for sentence in sentences)


def _is_refusal(name: str, text: str) -> bool:
    """Return whether these are words of a refusal."""
    of_value = TOO_LONG_AN_ANSWER if name in (LENGTH, NEW_LENGTH) else WRONG_VALUE
    return bool(UNSUPPORTED.search(text) or of_value.search(text))


def _runs_of_words(chat: Sequence[Mapping[str, str]]) -> set[tuple[str, ...]]:
    """Return all runs of QUOTED_WORDS words in a dialogue."""
    runs: set[tuple[str, ...]] = set()
    for message in chat:
        words = [word for word, _ in _words(message["content"])]
        runs.update(zip(*(words[first:] for first in range(QUOTED_WORDS)), strict=False))
    return runs


def _without_quotes(text: str, quotable: set[tuple[str, ...]]) -> str:
    """Return a text without what it quotes, however that is escaped, spaced or cased."""
    words = list(_words(text))
    kept, begin = "", 0
    for first in range(len(words) - QUOTED_WORDS + 1):
        run = words[first : first + QUOTED_WORDS]
        if tuple(word for word, _ in run) in quotable:
            start, end = run[0][1][0], run[-1][1][1]
            kept += text[begin:start]
            begin = end
    return kept + text[begin:]


def _words(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the words of a text, and where they stand."""
    plain = ESCAPED.sub(lambda found: " " * len(found[0]), text)
    return ((found[0].casefold(), found.span()) for found in WORD.finditer(plain))


def _read(body: str) -> Any:
    """Return an error body as data where it is JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _sayings(value: Any, fields: Mapping[str, Any], about: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of an error body with the setting that it is marked with (`param`, or pydantic's `loc`)."""
    if isinstance(value, str):
        yield value, about
    elif isinstance(value, list):
        for item in value:
            yield from _sayings(item, fields, about)
    elif isinstance(value, dict):
        marks = [value.get("param"), *(value["loc"] if isinstance(value.get("loc"), list) else [])]
        named = [mark for mark in marks if isinstance(mark, str) and mark]
        about = next((mark for mark in named if mark in fields), named[0] if named else about)
        for key, item in value.items():
            if key not in ("param", "loc", "input"):
                yield from _sayings(item, fields, about)
