"""Compare the token ids of a server's prompts with those of training.

The server has a /tokenize route. The first difference is an error that shows where the ids part.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from ..data.encoding import DialogueEncoder
from ..errors import UserError


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
    """A dialogue, and the tokens that training has before the agent's next turn."""

    messages: list[dict[str, str]]
    ids: list[int]

    def __str__(self) -> str:
        has_system = self.messages[0]["role"] == "system"
        turns = (len(self.messages) - has_system + 1) // 2
        return (
            f"the prompt of {turns} human turn{'s' * (turns > 1)} {'with' if has_system else 'without'} a system turn"
        )


def prompts(encoder: DialogueEncoder) -> list[Prompt]:
    """Return dialogues of 1 to 7 human turns, with and without a system turn."""
    said = [TURNS[0], *(TURNS[1 + index % (len(TURNS) - 1)] for index in range(2 * MAX_ROUNDS - 2))]
    turns = [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(said)]
    found = []
    for system in ([], [{"role": "system", "content": SYSTEM}]):
        for rounds in range(1, MAX_ROUNDS + 1):
            messages = system + turns[: 2 * rounds - 1]
            found.append(Prompt(messages, encoder.prompt(messages)))
    return found


def compare(encoder: DialogueEncoder, template: str, served: Callable[[list[dict[str, str]]], list[int]]) -> int:
    """Compare a server's prompts with training's.

    Args:
        encoder: training's.
        template: its name, for the error.
        served: returns the server's token ids of a chat.

    Returns:
        The number of prompts compared.

    Raises:
        UserError: at the first difference.
    """
    expected = prompts(encoder)
    for prompt in expected:
        found = served(prompt.messages)
        if found != prompt.ids:
            raise UserError(
                f"template {template}: {prompt} is served otherwise than it was trained, so it is not served; "
                f"{_parting(encoder.tokenizer, prompt.ids, found)}; infer_backend=huggingface has training's prompts"
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


def tokenize_at(url: str, model: str, key: str) -> Callable[[list[dict[str, str]]], list[int]]:
    """Return a function that asks a server for the ids of a chat.

    Args:
        url: the server's, without /v1.
        model: the name that the server knows.
        key: the key, or nothing.
    """
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def ask(messages: list[dict[str, str]]) -> list[int]:
        body = json.dumps({"model": model, "messages": messages}).encode()
        request = urllib.request.Request(f"{url}/tokenize", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                tokens: list[int] = json.load(response)["tokens"]
        except urllib.error.HTTPError as err:
            raise UserError(
                f"{url}/tokenize: status {err.code}: {err.read()[:300].decode(errors='replace')}"
            ) from None
        except (OSError, ValueError, KeyError) as err:
            raise UserError(f"{url}/tokenize: {err}") from None
        return tokens

    return ask
