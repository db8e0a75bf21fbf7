"""Write what the partner says between two turns of the agent's, where the host's templates have no word for it.

The host knows one message of the partner's before each of the agent's. Several, or none, are put together from the
texts of a template: how a result begins and ends, and what opens the agent's turn. Where these cannot be told apart,
the dialogue is refused by the template's name.

    one message                    the host's own rendering
    results in a row               <tool_response> A </tool_response> <tool_response> B </tool_response>, one message
                                   where a template wraps results in a pair of tags; else a message for each
    results, then the partner      messages, of which the last alone is followed by the header of the agent's turn
    none (the agent speaks first)  prefix, system message, and that header
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from ..errors import UserError, one_line
from .calls import canonical_tools, read_calls
from .reading import Message, is_agent
from .splitting import PARTNER_ROLES


CONTENT = "{{content}}"
"""The host's mark in the text of a turn."""


class TemplateParts(NamedTuple):
    """A template as texts, with the host's mark for the content of a turn."""

    name: str
    prefix: str
    system: str
    user: str
    observation: str
    assistant: str
    function: str
    default_system: str
    system_in_first_turn: bool
    """Whether the system message is put into the first human turn, not before it."""
    call_words: tuple[str, str]
    """The marks around calls that follow a text, as the template reads them."""
    thought_words: tuple[str, str]
    tool_format: str
    """The host's name for how tools and calls are written."""
    write_tools: Callable[[str], str]
    """From the JSON of tools to what follows the system message."""
    write_calls: Callable[[str], str]
    """From the JSON of calls to the content of the turn."""
    thought: str = ""
    """The empty thought that training puts before an agent turn without one; empty for other templates."""
    strips_thoughts: bool = False
    """Whether thoughts in the dialogue are taken out, as under `enable_thinking: false`."""
    prompts_with_thought: bool = False
    """Whether the empty thought belongs to the prompt; else the agent was trained to write it itself."""

    @property
    def ending(self) -> str | None:
        """What ends a message: all that follows the content of a system message, or of the agent's own.

        None if what follows the partner's content does not begin with it: then the header is not known either.
        """
        begun, ended = _around(self.system)
        is_message = not self.system_in_first_turn and bool(begun.strip() or ended)
        own, after = _around(self.assistant)[1], _around(self.user)[1]
        candidates = [ended] * is_message + [own] * bool(own)
        return next((end for end in candidates if after.startswith(end) and after != end), None)

    @property
    def header(self) -> str | None:
        """What opens the agent's turn."""
        return None if self.ending is None else _around(self.user)[1].removeprefix(self.ending)

    @property
    def result_ending(self) -> str | None:
        """What ends a result when another or the partner follows."""
        before, after = _around(self.observation)
        marked = re.match(r"\[(\w+)\]", before)
        if marked and after.endswith(f"[/{marked[1]}]"):
            return after  # closed as a whole: no header of the agent's is part of it
        return after.removesuffix(self.header) if self.header and after.endswith(self.header) else None

    @property
    def between_results(self) -> str | None:
        """What stands between two results in a row."""
        before, after = _around(self.observation)
        if wrapped := re.search(r"<(\w+)>\s*$", before):
            if closed := re.match(rf"\s*</{wrapped[1]}>", after):
                return f"{closed[0]}\n{wrapped[0]}"
        return None if self.result_ending is None else self.result_ending + before

    @property
    def says_before_calls(self) -> bool:
        """Whether calls may follow a text in one turn; calls of some templates begin otherwise than a text does."""
        same = _around(self.function)[0] == _around(self.assistant)[0]
        return same and not self.system_in_first_turn

    def refusal(self, what: str) -> str:
        """Return why a dialogue cannot be rendered."""
        return f"template {self.name} cannot render {what}"


RENDERING_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What the host's templates raise for tools and calls that are not as they expect."""

MAX_REASON = 120
"""Characters of such an error that are shown; some hold the whole text."""

CALLS_EXPECTED = (
    'JSON: {"name": …, "arguments": {…}}, or a list of such calls; after a text <tool_call>JSON</tool_call>'
)
NO_ROW, NO_RETURN, NO_OPENING, NO_TEXT, NO_SYSTEM = (
    "several results in a row",
    "a result and then a turn of the partner's",
    "an agent that speaks first",
    "a text and calls in one turn",
    "a system message or tools without a first turn of the partner's",
)


ORDER = "a dialogue alternates between agent and partner; results of tools may stand before a turn of the partner's"


class Block(NamedTuple):
    """What the partner says, and the agent's turn that follows: results, then at most one human turn."""

    partner: list[Message]
    agent: Message


def blocks_of(messages: Sequence[Message]) -> list[Block]:
    """Return the blocks of a dialogue that ends on an agent's turn.

    Raises:
        UserError: if turns follow one another that may not.
    """
    blocks: list[Block] = []
    partner: list[Message] = []
    for message in messages:
        if is_agent(message):
            blocks.append(Block(partner, message))
            partner = []
        elif message["role"] not in PARTNER_ROLES or (partner and partner[-1]["role"] == "user"):
            raise UserError(ORDER)
        else:
            partner.append(message)
    if partner or not all(block.partner for block in blocks[1:]):
        raise UserError(ORDER)
    return blocks


def system_text(parts: TemplateParts, system: str, tools: str) -> str:
    """Return the system message with the tools, '' without either."""
    system = system or parts.default_system
    return fill(parts.system, system + parts.write_tools(tools)) if system or tools else ""


def partner_text(parts: TemplateParts, partner: Sequence[Message], lead: str = "", system: str = "") -> str:
    """Return the text up to the agent's turn.

    Args:
        parts: of the template.
        partner: the messages of one block.
        lead: what stands before them: the prefix, for the first block.
        system: `system_text`, for the first block.

    Raises:
        UserError: if the template has no form for it.
    """
    if parts.system_in_first_turn and system and not (len(partner) == 1 and partner[0]["role"] == "user"):
        raise UserError(parts.refusal(NO_SYSTEM))
    if not partner:
        return lead + system + _known(parts, parts.header, NO_OPENING)
    results = [message["content"] for message in partner if message["role"] == "observation"]
    said = [message["content"] for message in partner if message["role"] == "user"]
    text = lead + system
    if results:
        before, after = _around(parts.observation)
        between = _known(parts, parts.between_results, NO_ROW) if len(results) > 1 else ""
        text += before + between.join(results)
        text += _known(parts, parts.result_ending, NO_RETURN) if said else after
    return text + "".join(fill(parts.user, content) for content in said)


def spelled(parts: TemplateParts, message: Message) -> Message:
    """Return a message as the host reads it, so that no mark within what is said or called misleads it.

    Raises:
        UserError: if the template cannot render its text and calls.
        ValueError, TypeError, KeyError: of `read_calls`.
    """
    if message["role"] != "function":
        return message
    calls = read_calls(message["content"], parts.thought_words[1])
    if not calls.text:
        return {**message, "content": calls.json}
    opening, closing = parts.call_words
    if opening in calls.text:
        raise UserError(f"the text before the calls holds {opening}, the mark of calls")
    if not parts.says_before_calls:
        raise UserError(parts.refusal(NO_TEXT))
    return {**message, "content": f"{calls.text}{opening}{calls.json}{closing}"}


def check_calls(parts: TemplateParts, messages: list[Message], tools: str) -> None:
    """Refuse tools, calls and an order of turns that the template cannot render.

    Raises:
        UserError: naming the turn, if it is one.
    """
    first = int(messages[0]["role"] == "system")
    named = partial(_named, parts.name)
    with named("its tools", "a JSON list of objects with name and parameters"):
        system = system_text(parts, messages[0]["content"] if first else "", canonical_tools(tools))
    for index, message in enumerate(messages):
        if message["role"] == "function":
            with named(f"turn {index}, a function call,", CALLS_EXPECTED):
                spelled(parts, message)
                parts.write_calls(read_calls(message["content"], parts.thought_words[1]).json)
    for block in blocks_of(messages[first:]):
        partner_text(parts, block.partner, system=system)
        system = ""


@contextmanager
def _named(template: str, name: str, expected: str) -> Iterator[None]:
    """Say of which part of a dialogue an error of rendering is."""
    try:
        yield
    except UserError as err:
        raise UserError(f"{name.removesuffix(',')}: {err}") from None
    except RENDERING_ERRORS as err:
        raise UserError(
            f"{name} cannot be rendered by the template ({type(err).__name__}: {one_line(err)[:MAX_REASON]}; "
            f"template: {template}); expected {expected}"
        ) from None


def _known(parts: TemplateParts, text: str | None, what: str) -> str:
    if text is None:
        raise UserError(parts.refusal(what))
    return text


def fill(text: str, content: str) -> str:
    """Return a text with its content."""
    return text.replace(CONTENT, content, 1)


def _around(text: str) -> tuple[str, str]:
    """Return what stands before and after the content of a turn."""
    before, _, after = text.partition(CONTENT)
    return before, after
