"""One agent's turn in its three forms: a pair, a JSON object as models write it, a sentence as upstream stores it.

Comes in: a model's answer, or the text of a stored message. Goes out: an Action.
Invariant: `from_text(to_text(a)) == a` and `from_json(to_json(a)) == a` for every action that parse_answer gives.
"""

import json
import re
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, get_args

from sotopia_sdpo.llm.answers import AnswerError, find_object


ActionType = Literal["speak", "action", "leave", "none"]
ACTION_TYPES: tuple[ActionType, ...] = get_args(ActionType)
"""What our agents may do; upstream's fifth type only occurs in episodes that others have sampled."""

WORDLESS = ("leave", "none")
SPEECH_PREFIX, SPEECH_SUFFIX = 'said: "', '"'
LEAVE_TEXT, NONE_TEXT = "left the conversation", "did nothing"
BRACKETED = re.compile(r"\[(action|non-verbal communication)\] (.*)", re.DOTALL)
# The authors' scripts put the words between the quotes as they are, so their data holds turns that are no JSON.
JOINED = re.compile(r'\{\s*"action_type":\s*"([^"]*)",\s*"argument":\s*"((?:(?!"action_type").)*)"\s*\}', re.DOTALL)

# Upstream renders what is said as XML, which has no place for these characters and fails on them.
UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

RESPONSE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "action_type": {"type": "string", "enum": list(ACTION_TYPES)},
        "argument": {"type": "string"},
    },
    "required": ["action_type", "argument"],
    "additionalProperties": False,
}


class Action(NamedTuple):
    """What one agent does in its turn."""

    action_type: str
    argument: str = ""

    def to_json(self) -> str:
        """Return the JSON object that stands in a chat."""
        return json.dumps(self._asdict(), ensure_ascii=False)

    def joined(self) -> str:
        """Return that object with the words as they are between the quotes, which need not be JSON."""
        return f'{{"action_type": "{self.action_type}", "argument": "{self.argument}"}}'

    def to_text(self) -> str:
        """Return the sentence that upstream stores, without the speaker's name."""
        if self.action_type == "speak":
            return f"{SPEECH_PREFIX}{self.argument}{SPEECH_SUFFIX}"
        if self.action_type in WORDLESS:
            return LEAVE_TEXT if self.action_type == "leave" else NONE_TEXT
        return f"[{self.action_type}] {self.argument}"


NONE = Action("none")


def from_text(text: str) -> Action:
    """Read upstream's sentence back.

    Raises:
        ValueError: if it is none of the sentences that upstream writes.
    """
    if text in (LEAVE_TEXT, NONE_TEXT):
        return Action("leave" if text == LEAVE_TEXT else "none")
    if text.startswith(SPEECH_PREFIX) and text.endswith(SPEECH_SUFFIX) and len(text) > len(SPEECH_PREFIX):
        return Action("speak", text[len(SPEECH_PREFIX) : -len(SPEECH_SUFFIX)])
    if found := BRACKETED.fullmatch(text):
        return Action(found[1], found[2])
    raise ValueError(f"{text[:80]!r} is not an action; expected 'said: \"…\"', '[action] …', or '{LEAVE_TEXT}'")


def from_json(text: str) -> Action:
    """Read the JSON object of a chat back, whatever its action type, also one whose words were not escaped.

    Raises:
        ValueError: if it is not one JSON object with a string `action_type`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as err:  # also a number or a nesting without end
        if joined := JOINED.fullmatch(text.strip()):
            return Action(joined[1], joined[2])
        raise ValueError(f"{text[:80]!r} is not JSON ({err})") from err
    return _checked(found)


def reads_as(text: str, action: Action) -> bool:
    """Return whether a turn of a chat is this action, in our form or as the authors' scripts write it."""
    # They do not escape the words, and make an action of the sentence of whatever is not said.
    told = (
        action if action.action_type == "speak" else Action("action", action.to_text().replace("[action]", "").strip())
    )
    if text in (one.joined() for one in (action, told)):
        return True
    try:
        return from_json(text) in (action, told)
    except (ValueError, RecursionError):
        return False


def parse_answer(text: str, allowed: Collection[str] = ACTION_TYPES) -> Action:
    """Return the action in a model's answer; a code fence or a sentence around the object does no harm.

    Raises:
        AnswerError: if there is no such object, or it is not an allowed action.
    """
    action = _checked(find_object(text, "action_type"))
    argument = UNPRINTABLE.sub("", action.argument).strip()
    if action.action_type not in allowed:
        raise AnswerError(f"action_type is {action.action_type!r}, expected one of {', '.join(allowed)}")
    if action.action_type in WORDLESS:
        return Action(action.action_type)
    if not argument:
        raise AnswerError(f"action_type is {action.action_type!r}, but argument is empty")
    return Action(action.action_type, argument)


def _checked(found: Any) -> Action:
    """Return the action that a decoded object is."""
    if not isinstance(found, dict) or not isinstance(found.get("action_type"), str):
        raise AnswerError(f"expected an object with a string 'action_type', found {str(found)[:80]!r}")
    argument = found.get("argument", "")
    if argument is None and found["action_type"] in WORDLESS:
        argument = ""
    if not isinstance(argument, str):
        raise AnswerError(f"argument is {argument!r}, expected a string")
    return Action(found["action_type"], argument)
