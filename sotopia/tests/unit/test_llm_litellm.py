"""What litellm does to a request and to an error is found out and told."""

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from llm_server import CHAT, Handler, good, served

from sotopia_sdpo.llm.backends import Refused, Transient, not_passed_on
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model


DRAWN = Sampling(0.7, 3, None, {"type": "object", "properties": {}}, "action", 0.7, 50)
KEY = "azure-hunter22"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", []),
        ("o3-mini", ["temperature", "top_p"]),
        ("anthropic/claude-3-5-sonnet-20241022", ["seed"]),
        ("ollama_chat/llama3", ["response_format"]),
        ("nobody/knows", []),
    ],
)
def test_what_litellm_leaves_out(model: str, expected: list[str]) -> None:
    assert not_passed_on(parse_model(model), DRAWN.parameters()) == expected


def asked(monkeypatch: pytest.MonkeyPatch, refuse: Any) -> tuple[Any, list[dict[str, Any]], LLMClient]:
    """Make one call of an Azure model by litellm; what fails is its error."""
    bodies: list[dict[str, Any]] = []

    async def handler(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        return refuse(body) or good()

    async def work(urls: list[str]) -> tuple[Any, list[dict[str, Any]], LLMClient]:
        monkeypatch.setenv("AZURE_API_KEY", KEY)
        monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")
        monkeypatch.setenv("AZURE_API_BASE", urls[0].removesuffix("/v1"))
        async with LLMClient(Limits(attempts=2)) as client:
            try:
                return (await client.complete(parse_model("azure/gpt-4o"), CHAT, DRAWN)).text, bodies, client
            except (Refused, Transient) as err:
                return err, bodies, client

    return asyncio.run(served([at_azure(handler)], work))


def at_azure(handler: Handler) -> Handler:
    """Mark a handler whose path is Azure's."""
    handler.path = "/openai/deployments/gpt-4o/chat/completions"  # type: ignore[attr-defined]
    return handler


def error(status: int, message: str) -> web.Response:
    """Fail as Azure does: every error is of this type, which litellm takes for a content filter's."""
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=status)


def test_the_servers_own_words_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(body: dict[str, Any]) -> web.Response | None:
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature' does not support 0.7 with this model.")
        return error(400, "No.") if "response_format" in body else None

    found, bodies, client = asked(monkeypatch, picky)
    assert found == "Hello"
    assert [sorted(body.keys() & {"temperature", "response_format"}) for body in bodies] == [
        ["response_format", "temperature"],
        ["response_format"],
        [],
    ]
    assert client.left_out == {"azure/gpt-4o": {"action": ["temperature 0.7", "response_format"]}}


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (401, Refused, "the key is refused or missing .Wrong key .key.."),
        (503, Transient, "azure/gpt-4o: Wrong key .key."),
        (402, Refused, "azure/gpt-4o: status 402: Wrong key .key."),
    ],
)
def test_the_servers_own_status_decides(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception], fault: str
) -> None:
    found, bodies, _ = asked(monkeypatch, lambda _: error(status, f"Wrong key {KEY}"))
    assert isinstance(found, kind) and re.match(fault, str(found)) and KEY not in str(found)
    assert len(bodies) == (2 if kind is Transient else 1)


def test_what_is_left_out_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({
            "id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 3, "output_tokens": 2},
        })  # fmt: skip

    handler.path = "/v1/messages"  # type: ignore[attr-defined]

    async def work(urls: list[str]) -> list[str]:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_API_BASE", urls[0].removesuffix("/v1"))
        model = parse_model("anthropic/claude-3-5-sonnet-20241022")
        async with LLMClient(Limits(attempts=1)) as client:
            for seed in (1, 2):
                answer = await client.complete(model, CHAT, DRAWN._replace(seed=seed, schema=None))
                assert answer.text == "Hello"
            return client.notes

    assert asyncio.run(served([handler], work)) == [
        "anthropic/claude-3-5-sonnet-20241022, action: litellm does not pass seed on to this provider"
    ]
