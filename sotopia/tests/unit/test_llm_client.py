"""Calls against a server of the test's own: repeated, spread, refused, and never showing a key."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.backends import Refused, Transient, Unreachable, retry_after_s
from sotopia_sdpo.llm.client import LLMClient, Sampling
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import ModelSpec, parse_model


CHAT = [{"role": "user", "content": "Hi"}]
PLAIN = Sampling(0.5, seed=7, max_tokens=9, schema={"type": "object"})
Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def good(text: str = "Hello") -> web.Response:
    """Answer well."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return web.json_response({"choices": [{"message": {"content": text}}], "usage": usage})


async def served(handlers: list[Handler], work: Callable[[list[str]], Awaitable[Any]]) -> Any:
    """Run a server for each handler, and the work on their addresses."""
    runners, urls = [], []
    for handler in handlers:

        async def handle(request: web.Request, handler: Handler = handler) -> web.StreamResponse:
            return await handler(request, await request.json())

        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        urls.append(f"http://127.0.0.1:{runners[-1].addresses[0][1]}/v1")
    try:
        return await work(urls)
    finally:
        for runner in runners:
            await runner.cleanup()


def complete(handler: Handler, attempts: int = 5, timeout_s: float = 5.0) -> tuple[Answer, LLMClient]:
    """Make one call to one server."""

    async def work(urls: list[str]) -> tuple[Answer, LLMClient]:
        async with LLMClient(Limits(attempts=attempts, timeout_s=timeout_s)) as client:
            return await client.complete(parse_model(f"custom/m@{urls[0]}"), CHAT, PLAIN), client

    return asyncio.run(served([handler], work))


def scripted(*steps: Callable[[web.Request], web.StreamResponse]) -> tuple[Handler, list[dict[str, Any]]]:
    """Answer by a script, its last step for ever, and keep the requests."""
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        return steps[min(len(bodies), len(steps)) - 1](request)

    return handler, bodies


def dropped(request: web.Request) -> web.StreamResponse:
    """Drop the connection."""
    request.transport.abort()
    return web.Response()


def test_settings_are_sent_and_usage_counted() -> None:
    handler, bodies = scripted(lambda _: good())
    reply, client = complete(handler)
    assert reply.text == "Hello" and client.total[:3] == (1, 3, 2) and client.repeated == 0
    body = bodies[0]
    assert (body["model"], body["messages"], body["temperature"], body["seed"]) == ("m", CHAT, 0.5, 7)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    "bad",
    [
        lambda _: web.Response(status=500),
        lambda _: web.Response(status=503, text="busy"),
        lambda _: web.Response(text="{torn"),
        lambda _: web.json_response({"choices": []}),
        lambda _: web.json_response([1]),
        dropped,
    ],
)
def test_what_may_pass_is_tried_again(bad: Callable[[web.Request], web.StreamResponse]) -> None:
    handler, bodies = scripted(bad, bad, lambda _: good())
    reply, client = complete(handler)
    assert reply.text == "Hello" and len(bodies) == 3 and client.repeated == 2


def test_retry_after_is_obeyed() -> None:
    handler, bodies = scripted(lambda _: web.Response(status=429, headers={"Retry-After": "0.6"}), lambda _: good())
    started = time.monotonic()
    complete(handler)
    assert 0.6 <= time.monotonic() - started < 2 and len(bodies) == 2


@pytest.mark.parametrize(
    ("headers", "expected"), [({"Retry-After": "3"}, 3.0), ({"retry-after": "x"}, None), ({}, None), (None, None)]
)
def test_retry_after_as_seconds(headers: dict[str, str] | None, expected: float | None) -> None:
    assert retry_after_s(headers) == expected


def test_retry_after_as_a_date() -> None:
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_attempts_end() -> None:
    handler, bodies = scripted(lambda _: web.Response(status=500, text="broken"))
    with pytest.raises(Transient, match="status 500 broken"):
        complete(handler, attempts=3)
    assert len(bodies) == 3


def test_one_call_may_have_attempts_of_its_own() -> None:
    handler, bodies = scripted(lambda _: web.Response(status=500))

    async def work(urls: list[str]) -> None:
        async with LLMClient(Limits(attempts=5)) as client:
            await client.complete(parse_model(f"custom/m@{urls[0]}"), CHAT, PLAIN, attempts=2)

    with pytest.raises(Transient):
        asyncio.run(served([handler], work))
    assert len(bodies) == 2


def test_a_silent_server_is_given_up() -> None:
    async def silent(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(1)
        return good()

    with pytest.raises(Transient, match="in time"):
        complete(silent, attempts=1, timeout_s=0.2)


def test_what_will_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOM_API_KEY", "key-not-to-be-seen")
    echo = {"error": {"message": "Incorrect API key provided: key-not-to-be-seen"}}
    handler, bodies = scripted(lambda _: web.json_response(echo, status=401))
    with pytest.raises(Refused) as caught:
        complete(handler)
    assert len(bodies) == 1 and "CUSTOM_API_KEY" in str(caught.value) and "not-to-be-seen" not in str(caught.value)


def test_a_refused_setting_is_left_out_from_then_on() -> None:
    def picky(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "response_format: unknown field; seed: too"}, status=422)

    handler, bodies = scripted(picky, lambda _: good())

    async def work(urls: list[str]) -> LLMClient:
        async with LLMClient() as client:
            for _ in range(2):
                await client.complete(parse_model(f"custom/m@{urls[0]}"), CHAT, PLAIN)
            return client

    client = asyncio.run(served([handler], work))
    assert ["response_format" in body for body in bodies] == [True, False, False]
    assert ["seed" in body for body in bodies] == [True, False, False] and bodies[2]["temperature"] == 0.5
    assert len(client.notes) == 1 and "refuses seed, response_format" in client.notes[0]


def test_load_is_spread_and_a_dead_endpoint_avoided() -> None:
    seen: list[int] = [0, 0]

    def slow(index: int, delay_s: float) -> Handler:
        async def handler(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
            seen[index] += 1
            await asyncio.sleep(delay_s)
            return good()

        return handler

    async def work(urls: list[str]) -> LLMClient:
        model = parse_model(f"custom/m@{urls[0]},http://127.0.0.1:9/v1,{urls[1]}")
        queue = list(range(60))
        async with LLMClient(Limits(timeout_s=5)) as client:

            async def worker() -> None:
                while queue:
                    queue.pop()
                    await client.complete(model, CHAT, PLAIN)

            await asyncio.gather(*(worker() for _ in range(6)))
            return client

    client = asyncio.run(served([slow(0, 0.01), slow(1, 0.03)], work))
    assert sum(seen) == 60 and seen[0] > seen[1] > 5 and client.repeated <= 6


def test_a_chat_stays_where_its_prefix_is_cached() -> None:
    seen: list[list[str]] = [[], []]

    def named(index: int) -> Handler:
        async def handler(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            seen[index].append(body["messages"][0]["content"])
            await asyncio.sleep(0.01)
            return good()

        return handler

    async def work(urls: list[str]) -> None:
        model = parse_model(f"custom/m@{urls[0]},{urls[1]}")
        async with LLMClient() as client:

            async def chat(name: str) -> None:
                for _ in range(5):
                    await client.complete(model, [{"role": "user", "content": name}], PLAIN, affinity=name)

            await asyncio.gather(*(chat(name) for name in "abcd"))

    asyncio.run(served([named(0), named(1)], work))
    assert not set(seen[0]) & set(seen[1]) and len(seen[0]) == len(seen[1]) == 10


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (lambda _: web.Response(status=404, text="no such model"), "no model 'm' there"),
        (lambda _: web.Response(status=403), "the key is refused"),
        (lambda _: web.Response(status=400, text="bad"), "status 400"),
    ],
)
def test_a_probe_names_what_cannot_work(step: Callable[[web.Request], web.StreamResponse], fault: str) -> None:
    handler, _ = scripted(step)

    async def work(urls: list[str]) -> None:
        async with LLMClient() as client:
            await client.probe([parse_model(f"custom/m@{urls[0]}")])

    with pytest.raises(UserError, match=fault):
        asyncio.run(served([handler], work))


def test_a_probe_outlives_a_passing_fault() -> None:
    handler, bodies = scripted(lambda _: web.Response(status=500), lambda _: good())

    async def work(urls: list[str]) -> None:
        async with LLMClient() as client:
            await client.probe([parse_model(f"custom/m@{urls[0]}")])

    asyncio.run(served([handler], work))
    assert len(bodies) == 2


def test_nobody_there() -> None:
    async def work() -> None:
        async with LLMClient(Limits(attempts=1)) as client:
            await client.complete(ModelSpec("m", "m", ("http://127.0.0.1:9/v1",)), CHAT, PLAIN)

    with pytest.raises(Unreachable, match="no connection to http://127.0.0.1:9/v1"):
        asyncio.run(work())
