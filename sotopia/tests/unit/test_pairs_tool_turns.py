"""Turns of tools are read in the host's spelling, whatever stands in them, and shortened with a true count."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.pairs.tool_turns import Call, ToolTurn, shortened, tool_turn


TEXT = st.lists(st.sampled_from(["\n", "<tool_call>", "</tool_call>", '"', "\\", "{", "[", "é"]) | st.text(max_size=3)).map("".join)  # fmt: skip
VALUES = st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT, max_size=2), max_size=3)
CALLS = st.lists(st.tuples(TEXT, VALUES).map(lambda one: Call(*one)), min_size=1, max_size=3)


@given(CALLS, TEXT.filter(lambda text: bool(text.strip())), st.booleans())
def test_text_and_calls_are_read_back(calls: list[Call], says: str, has_text: bool) -> None:
    written = json.dumps([call._asdict() for call in calls])
    value = f"{says}\n<tool_call>{written}</tool_call>" if has_text else written
    assert tool_turn(value) == ToolTurn(says if has_text else "", calls)


@pytest.mark.parametrize(
    "value",
    ["", "words", "3", "[]", "[3]", '[{"arguments": {}}]', '[{"name": 3}]', "a\n<tool_call>{</tool_call>", "[" * 100_000],
)  # fmt: skip
def test_what_is_no_call_stays_the_text_that_it_is(value: str) -> None:
    assert tool_turn(value) == ToolTurn(value, [])


@pytest.mark.parametrize(
    ("arguments", "read"), [('{"a": 1}', {"a": 1}), ("{", "{"), ("", ""), (None, None), ([1], [1]), ({}, {})]
)
def test_arguments_may_be_json_in_a_string(arguments: Any, read: Any) -> None:
    assert tool_turn(json.dumps({"name": "f", "arguments": arguments})).calls == [Call("f", read)]


@given(st.text(max_size=300), st.integers(3, 100))
def test_a_long_text_loses_its_middle_and_says_how_much(text: str, most: int) -> None:
    found = shortened(text, most)
    if len(text) <= most:
        assert found == text
    else:
        head, tail = text[: most * 2 // 3], text[len(text) - most // 3 :]
        marked = re.fullmatch(
            r" \[\.\.\. ([\d,]+) characters left out \.\.\.\] ", found[len(head) : len(found) - len(tail)]
        )
        assert marked and found.startswith(head) and found.endswith(tail)
        assert int(marked[1].replace(",", "")) == len(text) - len(head) - len(tail)
