"""The answer is the last whole object outside of thoughts, whatever stands around it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.llm import answers
from sotopia_sdpo.llm.answers import (
    LONGEST_ANSWER,
    MOST_BROKEN,
    AnswerError,
    as_integer,
    find_object,
    without_thoughts,
)


DRAFT, FINAL = '{"a": "draft"}', '{"a": "final"}'


@pytest.mark.parametrize(
    "text",
    [
        FINAL,
        f"<think>\nMaybe {DRAFT}, but no.\n</think>\n{FINAL}",
        f"Maybe {DRAFT}, but no.\n</think>\n\n{FINAL}",
        f"<THINKING>{DRAFT}</THINKING> {FINAL}",
        f"<seed:think>{DRAFT}</seed:think>{FINAL}",
        f"[THINK]{DRAFT}[/THINK]{FINAL}",
        f"◁think▷{DRAFT}◁/think▷{FINAL}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{FINAL}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final <|constrain|>json<|message|>{FINAL}",
        f'{FINAL}<think type="quick">or {DRAFT}',
        f"{FINAL}<analysis>or {DRAFT}",
        f"<think>{DRAFT}</think>{FINAL}<think>or {DRAFT}",
        f"{FINAL}<think>or {DRAFT}</think>",
        f"<think>one <think> two {DRAFT}</think> three {DRAFT}</think>{FINAL}",
        f'<think>{{"a": "dra</think>{FINAL}',
        f"First idea: {DRAFT} Better: {FINAL}",
        f"```json\n{DRAFT}\n```\nRevised:\n```json\n{FINAL}\n```\nHope it helps {{really}}.",
        f"{FINAL} {{not JSON}} {{}} {{'b': 1}} " + '{"b": {"c": 1}}',
        f"{{ {FINAL}",
        f'{{"answer": {FINAL}}}',
        f"[{DRAFT}, {FINAL}]",
        f'{{"first": {DRAFT}, "then": [{FINAL}], "note": 1}}',
        f'{{"draft": {DRAFT}, "a": "final"}}',
        '{"a": "final",}',
        '{"b": [1, 2,\n], "a": "final" , \n}',
        '{"b": {"c": "x,}",},"a": "final",} ',
    ],
)
def test_the_answer_is_found(text: str) -> None:
    assert find_object(text, "a")["a"] == "final"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no JSON object with 'a' in ''"),
        (f"<think>Maybe {DRAFT}, or", "no JSON object"),
        (f"<think>{DRAFT}</think>", "no JSON object"),
        (f"{DRAFT}</think>I will not.", "no JSON object with 'a' in 'I will not.'"),
        (f'{DRAFT} Better: {{"a": "fin', "the last object is no whole JSON"),
        (f'{DRAFT} Better: {{"a": "he said "no""}}', "the last object is no whole JSON"),
        (f'{DRAFT} Better: {{"b": {{"a": ', "the last object is no whole JSON"),
        ('{"a": 1,,"b": 2}', "no JSON object"),
        ("{" * 5000, "no JSON object"),
        ('{"a":' * 5000, "no JSON object"),
        (f'{{"a": {"9" * 5000}}}', "no JSON object"),
    ],
)
def test_what_is_no_answer(text: str, fault: str) -> None:
    with pytest.raises(AnswerError, match=fault):
        find_object(text, "a")


@pytest.mark.parametrize("said", ["</think>", "<think>", f"<think>{DRAFT}</think>", "[/THINK] a,} b", "x, ]"])
def test_marks_within_an_answer_are_words(said: str) -> None:
    answer = json.dumps({"a": said})
    assert find_object(answer, "a") == find_object(f"<think>no</think>{answer}", "a") == {"a": said}


@pytest.mark.parametrize(
    "piece", ['{"a":', '{"a":[', '{"', '{"a":[1,],"b":', '{"a": 1 {', '{"reason": "r", "index": ']
)
def test_objects_that_do_not_end_are_not_read_for_ever(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was read up to its fault, 10,000 of them up to the end of the text: seconds, in which nothing else went on."""

    class Counted(json.JSONDecoder):
        calls = 0

        def raw_decode(self, *args: Any) -> Any:
            Counted.calls += 1
            return super().raw_decode(*args)

    monkeypatch.setattr(answers, "DECODER", Counted())
    with pytest.raises(AnswerError, match="no JSON object that can be told from 200 that are not whole"):
        find_object(piece * (LONGEST_ANSWER // len(piece)), "a")
    assert Counted.calls <= MOST_BROKEN + answers.MAX_STRAY_COMMAS


def test_text_without_thoughts() -> None:
    assert without_thoughts("a <think>b</think> c <think>d") == "a  c "
    assert without_thoughts("b</think>c") == "c" and without_thoughts("I think") == "I think"


def test_keys_may_be_spelled_otherwise() -> None:
    assert find_object('{"A": 1} {"b": 2}', "a", str.lower) == {"A": 1}
    with pytest.raises(AnswerError, match="no whole"):
        find_object('{"A": 1} {"A": ', "a", str.lower)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)), st.text())
def test_any_object_is_found_as_it_is(value: Any, prose: str) -> None:
    found = {"a": value}
    text = json.dumps(found)
    assert find_object(text, "a") == found
    assert find_object(f"<think>{prose}{DRAFT}</think>{text}", "a") == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, 7) for value in (7, 7.0, "7", " 7 ", "+7", "7.0", "7.")),
        ("-3", -3),
        *((value, None) for value in (True, None, 7.5, "7.5", "7/10", "seven", "", "1e1", float("nan"), float("inf"))),
        *((value, None) for value in ([7], "7 8", "9" * 5000)),
    ],
)
def test_an_integer_however_it_is_written(value: Any, expected: int | None) -> None:
    assert as_integer(value) == expected
