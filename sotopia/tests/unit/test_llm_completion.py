"""What a response holds is read where it is unambiguous; the rest is unknown, or that call's failure."""

from typing import Any

import pytest
from aiohttp import web
from llm_server import complete, scripted

from sotopia_sdpo.llm import client as clients
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.backends import Transient
from sotopia_sdpo.llm.cache import AnswerCache, Request
from sotopia_sdpo.llm.completion import text_of, usage_of
from sotopia_sdpo.llm.usage import Usage, amount, cost_of


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi", "Hi"),
        (None, ""),
        ("a\ud83db", "a\ufffdb"),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}, {"type": "text", "text": "a"}], "a"),
        ([{"text": "no", "thought": True}, {"text": "a"}], "a"),
        (["a", {"type": "output_text", "text": "b"}, {"type": "image_url", "image_url": {}}], "ab"),
        ([{"type": "text", "text": None}], ""),
    ],
)
def test_the_text_of_a_message(content: Any, expected: str) -> None:
    assert text_of(content) == expected


@pytest.mark.parametrize("content", [3, {"text": "a"}, [3], [{"type": "text", "text": {}}], True])
def test_what_is_no_text(content: Any) -> None:
    with pytest.raises(TypeError):
        text_of(content)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 0}, (10, 0)),
        ({"prompt_tokens": "10", "completion_tokens": 5.0}, (10, 5)),
        *(
            (usage, (None, None))
            for usage in (None, "n/a", [], {}, 3, {"prompt_tokens": 10}, {"completion_tokens": 5})
        ),
        ({"prompt_tokens": "ten", "completion_tokens": 5}, (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": 5}, (None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": 5}, (None, None)),
        ({"prompt_tokens": 5, "completion_tokens": 2**63}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": 5}, (None, None)),
    ],
)
def test_usage(usage: Any, expected: tuple[int | None, int | None]) -> None:
    assert usage_of(usage) == Usage(1, *expected, None)


@pytest.mark.parametrize("usage", [None, "n/a", {"prompt_tokens": "ten"}])
def test_no_usage_is_unknown(usage: Any) -> None:
    handler, _ = scripted(
        lambda _: web.json_response({"choices": [{"message": {"content": [{"text": "Hi"}]}}], "usage": usage})
    )
    reply, client = complete(handler)
    assert reply.text == "Hi" and reply.usage == client.total == Usage(1, None, None, None)
    (note,) = client.notes
    assert note.endswith("answers do not say how many tokens they took")


@pytest.mark.parametrize("content", [3, {"a": 1}, [3]])
def test_a_malformed_answer_is_that_calls_failure(content: Any) -> None:
    handler, bodies = scripted(lambda _: web.json_response({"choices": [{"message": {"content": content}}]}))
    with pytest.raises(Transient, match="the answer is no chat completion"):
        complete(handler, attempts=2)
    assert len(bodies) == 2


def test_an_answer_of_brackets_is_that_calls_failure() -> None:
    handler, _ = scripted(lambda _: web.Response(text="[" * 100_000))
    with pytest.raises(Transient, match="the answer is no chat completion"):
        complete(handler, attempts=1)


def test_a_sum_with_something_unknown_is_unknown() -> None:
    known, unknown = Usage(1, 1000, 234, 0.5), Usage(1, None, None, None)
    assert amount(known) == "1,234 tokens, $0.50" and amount(Usage()) == "0 tokens, $0.00"
    assert known.plus(unknown) == Usage(2, None, None, None) and unknown.record()["prompt_tokens"] is None
    assert amount(unknown.plus(known)) == "tokens unknown, cost unknown"
    assert cost_of("gpt-4o", None, 3) is None


def test_an_unknown_usage_is_kept_as_such(tmp_path: Any) -> None:
    request = Request("m", [], {})
    with AnswerCache(tmp_path / "answers.db") as cache:
        cache.put(request, Answer("a", Usage(1, None, None, None)))
        assert cache.get(request) == Answer("a", Usage(1, None, None, None))


def test_a_priced_model_without_usage_costs_an_unknown_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain name at OPENAI_BASE_URL has a price by its name."""
    monkeypatch.setattr(clients, "cost_of", lambda name, asked, told: None if asked is None else 1.0)
    handler, _ = scripted(lambda _: web.json_response({"choices": [{"message": {"content": "Hi"}}]}))
    assert complete(handler)[0].usage.cost is None
