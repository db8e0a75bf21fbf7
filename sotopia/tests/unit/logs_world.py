"""Dialogues out of logs, made up: an agent of a shop that calls tools."""

import json
from typing import Any

from hypothesis import strategies as st

from sotopia_sdpo.play.dialogue import Message


TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {}}}, {"name": "refund", "parameters": {}}]
ENDS = {"human": "h", "gpt": "g", "function_call": "c", "observation": "o", "system": "s"}
TAGS = {letter: tag for tag, letter in ENDS.items()}


def calls(*names: str, says: str = "", **arguments: Any) -> Message:
    """Make a turn that calls tools."""
    written = json.dumps([{"name": name, "arguments": arguments} for name in names])
    value = f"{says}\n<tool_call>{written}</tool_call>" if says else written
    return {"from": "function_call", "value": value}


def talk(letters: str, word: str = "") -> list[Message]:
    """Make turns by the letters of their tags; `word` makes them differ from those of another dialogue."""
    return [
        calls("find", item=f"{word}{index}") if letter == "c" else {"from": TAGS[letter], "value": f"{word}{index}"}
        for index, letter in enumerate(letters)
    ]


def logged(conversations: list[Message] | None = None, **changes: Any) -> dict[str, Any]:
    """Make a record."""
    facts = {"episode": "run/1", "task": "shop/1", "trial": 0, "source": "made"}
    reward = {"name": "reward", "value": 0.0, "low": 0, "high": 1}
    known = {"tools": json.dumps(TOOLS), **facts, "outcomes": [reward]}
    return {"conversations": conversations or talk("shcog"), **known, **changes}


def pair(shared: str, worse: str, better: str, **changes: Any) -> list[dict[str, Any]]:
    """Make the two records of a pair: a shared history, and how each goes on."""
    common = {"pair": "run/1:run/2", "outcome_gains": {"reward": 1.0}, **changes}
    won = [{"name": "reward", "value": 1.0, "low": 0, "high": 1}]
    return [
        logged(talk(shared) + talk(worse, "worse"), **common, side="negative"),
        logged(talk(shared) + talk(better, "better"), **common, side="positive", episode="run/2", outcomes=won),
    ]


@st.composite
def rests(draw: st.DrawFn) -> str:
    """Make the letters from one of the agent's turns to another, with blocks of the partner's between them."""
    found = draw(st.sampled_from("gc"))
    for _ in range(draw(st.integers(0, 6))):
        results = "o" * draw(st.integers(0, 3)) if found[-1] == "c" else ""
        found += results + ("h" if not results or draw(st.booleans()) else "") + draw(st.sampled_from("gc"))
    return found
