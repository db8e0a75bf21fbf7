"""Objects in a text: what the obvious way finds, in linear time."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sotopia_sdpo.llm.json_text import MOST_LEVELS, Scan, first_object, objects_with


def obvious(text: str, field: str) -> dict[str, Any] | None:
    """Try to parse at every brace; the oracle, which takes the square of the length."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and field in found:
            return found
        start = text.find("{", start + 1)
    return None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just('{"a": 1}'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "{", '"', "\\"]), inner),
    max_leaves=8,
)
TOKENS = [
    *'{}[]:,"\\\t\n\x00 -01e.+',
    *('"a"', '"a":', '{"a":', '"b":', r'"\u0061":', r"\u12", r"\"", '"', "```json", "null", "nul", "true", "NaN"),
    *("Infinity", "-Infinity", "-", "1.5", "1.", "01", "1e5", "1E+", "-0", "9" * 4300, "9" * 4301, "\u0661", "\ud83d"),
]
SCRAPS = st.lists(st.sampled_from(TOKENS), max_size=25).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Draw JSON that has lost, gained or repeated some characters."""
    text = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
        text = text[:at] + draw(st.sampled_from(["", *TOKENS[:20]])) + text[at + size :]
    return draw(SCRAPS) + text + draw(SCRAPS)


def same(one: Any, other: Any) -> bool:
    """Compare also what is not a number."""
    return repr(one) == repr(other)


@settings(max_examples=500)
@given(SCRAPS | damaged())
@example('say {"a": "{\\"a\\": 1}"}')
@example('{"x": {"a": 1}, "a": 2} {"a": 3}')
@example('{"x": "{"a": 1}"}')
@example('{"a": 1, "a": 2}')
@example('{{"a": [{}, {"b": {"a": 1}}]}')
def test_what_the_obvious_way_finds(text: str) -> None:
    assert same(first_object(text, "a"), obvious(text, "a"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('```json\n{"a": "Hi {you}"}\n```', {"a": "Hi {you}"}),
        ('{"b": {"a": 1}}', {"a": 1}),
        ('{"b": 1} {"\\u0061": 2}', {"a": 2}),
        ('{"a": 1', None),
        ('{"a": 1,}', None),
        ('["a"]', None),
        ("", None),
    ],
)
def test_first_object(text: str, found: dict[str, Any] | None) -> None:
    assert first_object(text, "a") == found


def test_objects_with() -> None:
    text = '{"a": {"a": 1}} {"b": 2} {"a": [{"a": 3}]}'
    assert [text[start:end] for start, end in objects_with(text, "a")] == [
        *('{"a": {"a": 1}}', '{"a": 1}', '{"a": [{"a": 3}]}', '{"a": 3}')
    ]


def test_depth() -> None:
    """An object of more levels than the limit is none, those in it that have fewer are."""
    for levels, inner in [(MOST_LEVELS, MOST_LEVELS), (MOST_LEVELS + 5, MOST_LEVELS)]:
        found = first_object('{"a":' * levels + "1" + "}" * levels, "a")
        depth = 0
        while isinstance(found, dict):
            found, depth = found["a"], depth + 1
        assert depth == inner


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        '{"a":',
        '{"b":[',
        '{"',
        '{"a":"',
        '{"b":{},',
        '{"b":1}',
        '{"\\"',
        '[{"b":[1,2,',
        '{"b":"}{',
        '{ "b" : ',
        "{}",
    ],
)
def test_work_grows_with_the_length_only(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, each of which goes on by a character at least; the obvious way goes over most of these again and again."""
    step, steps = Scan._step, 0

    def counted(*arguments: Any) -> int | None:
        nonlocal steps
        steps += 1
        return step(*arguments)

    monkeypatch.setattr(Scan, "_step", counted)
    text = piece * (50_000 // len(piece))
    assert first_object(text, "c") is None and steps <= len(text)
