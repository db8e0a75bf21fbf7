"""Requests to the host's engine: what is refused, with which status, before the host or the model is asked."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import small
from fastapi.testclient import TestClient

from llamafactory_sdpo.host.serving import context_length, host_api, packed
from llamafactory_sdpo.serving.requests import CHAT, TOKENIZE, Limits, RequestChecks, prompt_of


USER, AGENT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "r"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
KEY = {"Authorization": "Bearer k"}


def called(arguments, content=None):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    small.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    return client_of(folder)


def client_of(folder):
    args = {"model_name_or_path": str(folder), "template": "llama3", "infer_backend": "huggingface"}
    application, prompt_ids = host_api({**args, "max_new_tokens": 2})
    limits = Limits(["agent"], "k", context_length(args))
    application.add_middleware(RequestChecks, limits=limits, prompt_ids=prompt_ids, packed=packed)

    def tokenize(chat: dict) -> dict:
        return {"tokens": prompt_of(chat, prompt_ids)}

    application.add_api_route(TOKENIZE, tokenize, methods=["POST"])
    return TestClient(application, raise_server_exceptions=False)


def ask(client, body, headers=KEY, route=CHAT):
    content = body if isinstance(body, bytes) else json.dumps({"model": "agent", "messages": [USER], **body})
    return client.post(route, content=content, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "other"}, 404, "the model 'other' does not exist; expected agent"),
        ({"functions": [{"name": "f"}]}, 400, "functions are not taken; send them as tools"),
        ({"tools": {"name": "f"}}, 400, "tools is not a list of objects"),
        ({"tools": [{"type": "function", "function": 3}]}, 400, "tools that cannot be rendered"),
        ({"tools": TOOLS, "stream": True}, 400, "calls are not streamed"),
        ({"messages": [USER, called("{")]}, 400, "a chat ends on a user turn"),
        ({"messages": [USER, called("{"), RESULT]}, 400, "calls or tools that cannot be rendered: JSONDecodeError"),
        ({"messages": [USER, called("[1]"), RESULT]}, 400, "arguments are an object"),
        ({"messages": [USER, {**called("{}"), "tool_calls": [3]}, RESULT]}, 400, "cannot be rendered: TypeError"),
        ({"messages": [USER, USER]}, 400, "alternates"),
        ({"messages": [USER, RESULT]}, 400, "alternates"),
        ({"messages": [USER, AGENT, {"role": "system", "content": "s"}]}, 400, "alternates"),
        (
            {"messages": [{"role": "developer", "content": "s"}]},
            400,
            "the role 'developer' is not one of system, user",
        ),
        ({"messages": [USER, AGENT]}, 400, "a chat ends on a user turn"),
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
        {"messages": [{"role": "system", "content": "s"}]},
        {"messages": [{"role": "system", "content": "s"}, AGENT, USER], "tools": TOOLS},
        {"messages": [USER, called("{}"), RESULT], "tools": TOOLS},
        {"messages": [USER, called({"a": 1}, "Hm."), RESULT, RESULT, USER, AGENT, USER], "tools": TOOLS},
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


def test_a_call_in_the_answer_comes_back_as_one(client, monkeypatch):
    """Read by the host from what the model writes, here in its place."""
    from llamafactory.chat.hf_engine import HuggingfaceEngine

    written = {"name": "f", "parameters": {"a": "é"}}
    asked = []

    async def chat(self, messages, system, tools, *rest, **options):
        asked.append(json.loads(messages[0]["content"]))
        return [
            SimpleNamespace(
                response_text=json.dumps(written), response_length=3, prompt_length=5, finish_reason="stop"
            )
        ]

    monkeypatch.setattr(HuggingfaceEngine, "chat", chat)
    choice = ask(client, {"tools": TOOLS}).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": "é"}'}
    assert ask(client, {}).json()["choices"][0]["message"]["content"] == json.dumps(written)
    assert [json.loads(tools or "null") for _, tools in asked] == [TOOLS, None]


def test_a_seed_means_the_same_answer_alone_beside_others_and_streamed(folder, monkeypatch):
    """Of a model that is unsure of every token; three at a time, some without a seed, in whatever order."""
    monkeypatch.setenv("MAX_CONCURRENT", "3")
    with client_of(folder) as client, ThreadPoolExecutor(6) as pool:

        def said(seed=None, **more):
            return ask(client, {"temperature": 1.0, "max_tokens": 12, "seed": seed, **more})

        def text(answer):
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]["message"]["content"]

        alone = {seed: text(said(seed)) for seed in range(4)}
        assert len(set(alone.values())) == 4
        asked = [seed for _ in range(3) for seed in (None, 3, 1, 0, 2)]
        beside = [text(answer) for answer in pool.map(said, asked)]
        assert [found for found, seed in zip(beside, asked, strict=True) if seed is not None] == [
            alone[seed] for seed in asked if seed is not None
        ]
        assert len({found for found, seed in zip(beside, asked, strict=True) if seed is None}) == 3
        events = said(2, stream=True).text.splitlines()
        chunks = [json.loads(line[6:]) for line in events if line.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == alone[2]
