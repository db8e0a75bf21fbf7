"""Requests go through the proxy of the environment; this machine's own servers are asked directly."""

import asyncio

import pytest
from aiohttp import web
from llm_server import CHAT, PLAIN, good

from sotopia_sdpo.llm.backends import Unreachable
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.proxies import proxy_for
from sotopia_sdpo.llm.spec import ModelSpec, parse_model


NAMES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "http://h/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://h/v1", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://h/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://h/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h:8/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://h/v1", "http://p:1"),
        ({"ALL_PROXY": "socks5://p:1"}, "https://h/v1", None),
        *(({"HTTP_PROXY": "http://p:1", "NO_PROXY": no}, "http://a.h:8/v1", None) for no in ("*", "h", ".h", "x, a.h", "a.h:8")),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "h"}, "http://ah/v1", "http://p:1"),
        *(({"HTTP_PROXY": "http://p:1"}, f"http://{host}:8/v1", None) for host in ("127.0.0.1", "127.8.8.8", "localhost", "a.localhost", "[::1]", "0.0.0.0")),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "h"}, "http://127.0.0.1:8/v1", None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ""}, "http://127.0.0.1:8/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://10.0.0.1:8/v1", "http://p:1"),
    ],
)  # fmt: skip
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, expected: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == expected


@pytest.mark.parametrize("typed", ["custom/m@http://models.example/v1", "m"])
def test_a_proxy_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Nobody resolves the name of the server but the proxy, which sees the whole address."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example/v1")
    asked: list[str] = []

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(str(request.rel_url))
        return good()

    async def work() -> str:
        runner = web.ServerRunner(web.Server(forward))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            async with LLMClient(Limits(attempts=1)) as client:
                return (await client.complete(parse_model(typed), CHAT, PLAIN)).text
        finally:
            await runner.cleanup()

    assert asyncio.run(work()) == "Hello" and len(asked) == 1 and "/v1/chat/completions" in asked[0]


def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ann:not-to-be-seen@127.0.0.1:9")

    async def work() -> None:
        async with LLMClient(Limits(attempts=1)) as client:
            await client.complete(ModelSpec("m", "m", ("http://models.example/v1",)), CHAT, PLAIN)

    with pytest.raises(Unreachable, match=r"models.example/v1 through the proxy http://\[key\]@127.0.0.1:9") as caught:
        asyncio.run(work())
    assert "not-to-be-seen" not in str(caught.value)
