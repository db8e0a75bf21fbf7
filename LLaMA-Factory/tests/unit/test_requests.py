"""Requests to the host's engine: what is refused, with which status, before the host or the model is asked."""

import json

import pytest
import small
from fastapi.testclient import TestClient

from llamafactory_sdpo.host.serving import context_length, host_api
from llamafactory_sdpo.serving.requests import CHAT, TOKENIZE, Limits, RequestChecks


USER, AGENT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
KEY = {"Authorization": "Bearer k"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    small.write_model(folder)
    args = {"model_name_or_path": str(folder), "template": "llama3", "infer_backend": "huggingface"}
    application, prompt_ids = host_api({**args, "max_new_tokens": 2})
    limits = Limits(["agent"], "k", context_length(args))
    application.add_middleware(RequestChecks, limits=limits, prompt_ids=prompt_ids)

    def tokenize(chat: dict) -> dict:
        return {"tokens": prompt_ids(chat["messages"])}

    application.add_api_route(TOKENIZE, tokenize, methods=["POST"])
    return TestClient(application, raise_server_exceptions=False)


def ask(client, body, headers=KEY, route=CHAT):
    content = body if isinstance(body, bytes) else json.dumps({"model": "agent", "messages": [USER], **body})
    return client.post(route, content=content, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "other"}, 404, "the model 'other' does not exist; expected agent"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools are not part"),
        ({"messages": [USER, AGENT]}, 400, "a chat ends on a user turn"),
        ({"messages": [{"role": "system", "content": "s"}]}, 400, "a chat ends on a user turn"),
        ({"messages": []}, 400, "a chat ends on a user turn"),
        ({"messages": "hello"}, 400, "messages is not a list"),
        ({"messages": [USER, USER, USER]}, 400, "alternates"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "content of a message is text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "content of a message is text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": "x" * 1_000_000}]}, 400, "the body is longer than 131072 bytes"),
        ({"messages": [{"role": "user", "content": "x " * 20_000}]}, 400, "tokens, the context of the model"),
        ({"max_tokens": -1}, 400, "max_tokens is -1, expected a whole number of at least 1"),
        ({"max_tokens": 1.5}, 400, "max_tokens is 1.5"),
        ({"max_tokens": 10**9}, 400, "max_tokens is more than the context"),
        ({"temperature": -0.5}, 400, "temperature is -0.5, expected a number of at least 0"),
        ({"temperature": float("nan")}, 400, "temperature is nan"),
        ({"temperature": 10**400}, 400, "temperature is 1000"),
        ({"temperature": True}, 400, "temperature is True"),
        ({"top_p": 0}, 400, "top_p is 0, expected a number above 0"),
        ({"top_p": 2}, 400, "top_p is 2"),
        ({"n": 0}, 400, "n is 0"),
        ({"n": 1000}, 400, "n is 1000"),
        (b"{", 400, "not JSON"),
        (b"[" * 10_000, 400, "not JSON"),
        (b'{"n": ' + b"9" * 5_000 + b"}", 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
    ],
)
def test_what_is_refused(client, body, status, message):
    answer = ask(client, body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"max_tokens": 2, "temperature": 0, "top_p": 0.9, "n": 1},
        {"presence_penalty": 0},
        {"tools": [], "seed": 3, "response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "s"}, USER, AGENT, USER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "text", "text": "v"}]}]},
    ],
)
def test_what_is_answered(client, body):
    answer = ask(client, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"


def test_parts_of_a_text_are_one_text(client):
    parts = [{"type": "text", "text": "u"}, {"type": "text", "text": "v"}]
    whole, apart = (
        ask(client, {"messages": [{"role": "system", "content": text}, USER]}, route=TOKENIZE).json()
        for text in ("uv", parts)
    )
    assert whole == apart and whole["tokens"]


def test_the_key_is_asked_for_before_the_body_is_read(client):
    assert ask(client, b"{", headers={}).status_code == 401
    assert ask(client, b"{", headers={}, route=TOKENIZE).status_code == 400
    assert client.get("/v1/models", headers=KEY).status_code == 200
