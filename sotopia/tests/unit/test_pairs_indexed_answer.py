"""What an annotator answers is read strictly but not pedantically."""

import json
import re
from typing import Any

import pytest

from sotopia_sdpo.pairs.indexed_answer import answer_schema, read_answer
from sotopia_sdpo.play.actions import AnswerError


@pytest.mark.parametrize(
    "answer",
    [
        '{"reason": " it\\n went ", "index": 3}',
        'Sure {not json} {"a": 1}:\n```json\n{"index": 3, "reason": "it went", "more": {}}\n``` {"seen": 5',
        '{"index": 4, "reason": "a draft"} {"index": "3", "reason": "it went"',
        '{"index": 3.0, "reason": "it went",',
        '{"reason": "it went", "index": 3',
    ],
)
def test_an_answer_is_read(answer: str) -> None:
    assert read_answer(answer + "}", "index") == ((3,), "it went")


def test_half_a_character_in_a_reason_can_be_written() -> None:
    assert read_answer('{"reason": "a\\ud83db", "index": 1}', "index").reason == "a\ufffdb"
    assert read_answer('{"reason": "\\ud83d\\ude00", "index": 1}', "index").reason == "😀"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("", "no JSON object with 'index' in ''"),
        ("[1]", "no JSON object with 'index' in '[1]'"),
        ('{"reason": "r"}', "no JSON object with 'index' in '{\"reason\": \"r\"}'"),
        ('{"index": "third", "reason": "r"}', "index is 'third', expected an integer"),
        ('{"index": 3.5, "reason": "r"}', "index is 3.5, expected an integer"),
        ('{"index": 3, "reason": "r"} {"index": 5}', "reason is missing, expected a text"),
        ('{"index": true, "reason": "r"}', "index is True, expected an integer"),
        ('{"index": null, "reason": "r"}', "index is None, expected an integer"),
        ('{"index": 3}', "reason is missing, expected a text"),
        ('{"index": 3, "reason": " "}', "reason is missing, expected a text"),
        ('{"index": 3, "reason": ["r"]}', "reason is missing, expected a text"),
        ('{"index": ' + "1" * 5000, "no JSON object with 'index' in "),
        ('{"index": ' + "1" * 5000 + "}", "no JSON object with 'index' in "),
        ('{"index":' * 1200, "no JSON object that can be told from 200 that are not whole"),
    ],
)
def test_an_answer_that_cannot_be_read(answer: str, fault: str) -> None:
    with pytest.raises(AnswerError, match=f"^{re.escape(fault)}"):
        read_answer(answer, "index")


def test_an_answer_of_two_indices() -> None:
    answer: dict[str, Any] = {"reason": "r", "start_index": 1, "end_index": 3}
    assert read_answer(json.dumps(answer), "start_index", "end_index").indices == (1, 3)
    with pytest.raises(AnswerError, match="^start_index is None, expected an integer$"):
        read_answer('{"end_index": 3, "reason": "r"}', "start_index", "end_index")
    schema = answer_schema("start_index", "end_index")
    assert list(schema["properties"]) == schema["required"] == list(answer) and schema["additionalProperties"] is False
