"""Name a pair by what is said in it, so that a flag finds it again in a file that was written anew.

Comes in: the dialogues of both sides. Goes out: 16 hex digits. Training computes the same of the same pair, however
its file spells it (`llamafactory_sdpo/data/flags.py`); segments, scores and weights are no part of it.
"""

import hashlib
import json
from collections.abc import Sequence

from sotopia_sdpo.pairs.records import PreferencePair, R
from sotopia_sdpo.play.dialogue import Message


ROLES = {
    "system": "system",
    "human": "user",
    "gpt": "assistant",
    "function_call": "function",
    "observation": "observation",
}
"""The roles of training, by those of ShareGPT."""
DIGITS = 16


def digest_of(pair: PreferencePair[R]) -> str:
    """Return the digest of a pair: of [role, text] of every turn, the negative's first."""
    said = [_said(side.conversations) for side in pair]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:DIGITS]


def _said(conversations: Sequence[Message]) -> list[list[str]]:
    return [[ROLES[turn["from"]], turn["value"]] for turn in conversations]
