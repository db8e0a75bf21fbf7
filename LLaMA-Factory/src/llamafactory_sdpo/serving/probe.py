"""Compare the token ids of a server's prompts with those of training.

The server has a /tokenize route. The first difference is an error that shows where the ids part.
"""

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from ..data.encoding import DialogueEncoder
from ..data.reading import is_agent
from ..errors import UserError, one_line
from .asking import DIRECTLY, FAILURES
from .chats import Chat, Served, Tools, chat_of
from .tool_dialogues import DIALOGUES, TOOLS
from .tool_dialogues import SYSTEM as TOOL_SYSTEM


SYSTEM = 'Be kind; it\'s "Zoë" who asks.'
TURNS = (
    'You are Ann (née Müller), 31.\nYour goal: get the blanket — don\'t pay > $5.\n\nAct as {"action_type": …}.',
    '{"action_type": "speak", "argument": "Hi! Isn\'t it cold? 🙂"}',
    '{"action_type": "none", "argument": ""}',
    '{"action_type": "action", "argument": "hands the letter\\nto Bo"}',
    '{"action_type": "speak", "argument": "C:\\\\temp, 50 % …"}',
    '{"action_type": "leave", "argument": ""}',
    "  No.  ",
)
"""The opening and three turns of either side; they are repeated for longer dialogues."""
MAX_ROUNDS = 7
SHOWN = 6
TIMEOUT_S = 60


class Prompt(NamedTuple):
    """A chat as a client sends it, and the tokens that training has before the agent's next turn."""

    name: str
    messages: Chat
    ids: list[int]
    tools: Tools = None


def prompts(encoder: DialogueEncoder) -> list[Prompt]:
    """Return dialogues of 1 to 7 human turns, with and without a system turn, and ones that the agent opens."""
    said = [TURNS[0], *(TURNS[1 + index % (len(TURNS) - 1)] for index in range(2 * MAX_ROUNDS - 2))]
    turns = [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(said)]
    leading = {"without": [], "with": [{"role": "system", "content": SYSTEM}]}
    found = [
        _prompt(
            encoder, f"{rounds} human turn{'s' * (rounds > 1)} {word} a system turn", system + turns[: 2 * rounds - 1]
        )
        for word, system in leading.items()
        for rounds in range(1, MAX_ROUNDS + 1)
    ]
    opened = {word: [*system, turns[1], turns[0]] for word, system in leading.items()} | {"before": leading["with"]}
    for word, messages in opened.items():
        try:
            found.append(_prompt(encoder, f"an agent that speaks first, {word} a system turn", messages))
        except UserError:  # what the template has no form for is refused
            continue
    return found


def tool_prompts(encoder: DialogueEncoder) -> list[Prompt]:
    """Return what stands before each of the agent's turns in dialogues with tools that the template can render."""
    found = []
    for name, (messages, has_tools) in DIALOGUES.items():
        tools = TOOLS if has_tools else ""
        for system in ([], [{"role": "system", "content": TOOL_SYSTEM}]):
            try:
                encoder.check_calls(system + messages, tools)
            except UserError:  # what the template has no form for is refused
                continue
            ends = [index for index, message in enumerate(messages) if is_agent(message)]
            found += [
                _prompt(encoder, f"turn {end} of {name!r}", system + messages[:end], tools)
                for end in ends
                if system or end  # an empty chat is no request
            ]
    return found


def _prompt(encoder: DialogueEncoder, name: str, messages: list[dict[str, str]], tools: str = "") -> Prompt:
    chat = chat_of(messages, encoder.parts.thought_words[1])
    return Prompt(f"the prompt of {name}", chat, encoder.prompt(messages, tools), json.loads(tools) if tools else None)


def compare(expected: list[Prompt], encoder: DialogueEncoder, served: Served) -> int:
    """Compare a server's prompts with training's.

    Args:
        expected: the prompts of training.
        encoder: training's.
        served: returns the server's token ids of a chat.

    Returns:
        The number of prompts compared.

    Raises:
        UserError: at the first difference.
    """
    for prompt in expected:
        found = served(prompt.messages, prompt.tools)
        if found != prompt.ids:
            raise UserError(
                f"template {encoder.parts.name}: {prompt.name} is served otherwise than it was trained, so it is not "
                f"served; {_parting(encoder.tokenizer, prompt.ids, found)}; infer_backend=huggingface has training's "
                "prompts"
            )
    return len(expected)


def _parting(tokenizer: Any, expected: list[int], found: list[int]) -> str:
    """Return where two lists of token ids part, in words."""
    both = zip(expected, found, strict=False)
    index = next((i for i, (ours, theirs) in enumerate(both) if ours != theirs), min(len(expected), len(found)))

    def show(ids: list[int]) -> str:
        part = ids[index : index + SHOWN]
        return f"{part} {tokenizer.decode(part)!r}" if part else "the end"

    before = tokenizer.decode(expected[max(0, index - SHOWN) : index])
    return f"at token {index}, after {before!r}, training has {show(expected)}, the server {show(found)}"


def tokenize_at(url: str, model: str, key: str) -> Served:
    """Return a function that asks a server for the ids of a chat.

    Args:
        url: the server's, without /v1.
        model: the name that the server knows.
        key: the key, or nothing.
    """
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def ask(messages: Chat, tools: Tools) -> list[int]:
        body = json.dumps({"model": model, "messages": messages} | ({"tools": tools} if tools else {})).encode()
        request = urllib.request.Request(f"{url}/tokenize", body, headers)
        try:
            with DIRECTLY.open(request, timeout=TIMEOUT_S) as response:
                tokens: list[int] = json.load(response)["tokens"]
        except urllib.error.HTTPError as err:
            raise UserError(
                f"{url}/tokenize: status {err.code}: {err.read()[:300].decode(errors='replace')}"
            ) from None
        except (*FAILURES, KeyError) as err:
            raise UserError(f"{url}/tokenize: {one_line(err)[:200]}") from None
        return tokens

    return ask
