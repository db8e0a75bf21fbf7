"""Calls against a server of the test's own: repeated, spread, refused, and never showing a key."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from llm_server import CHAT, PLAIN, Handler, complete, dropped, good, halved, scripted, served

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm import client as clients
from sotopia_sdpo.llm.backends import Refused, Transient, Unreachable, kind_of, retry_after_s
from sotopia_sdpo.llm.client import PROBE_ATTEMPTS, LLMClient, Sampling, _wait_s
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import ModelSpec, parse_model
from sotopia_sdpo.make.servers import free_ports


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
        lambda _: web.Response(body=b"{}", headers={"Content-Type": "application/json; charset=base64"}),
        dropped,
        halved("Content-Length: 500"),
        halved("Transfer-Encoding: chunked", body='20\r\n{"choices": [{"mess'),
        halved("Connection: close"),
    ],
)
def test_what_may_pass_is_tried_again(bad: Callable[[web.Request], web.StreamResponse]) -> None:
    handler, bodies = scripted(bad, bad, lambda _: good())
    reply, client = complete(handler)
    assert reply.text == "Hello" and len(bodies) == 3 and client.repeated == 2


def test_retry_after_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits as long as the server asks, and at most the first random wait more."""
    handler, bodies = scripted(lambda _: web.Response(status=429, headers={"Retry-After": "0.6"}), lambda _: good())
    waits: list[float] = []

    def kept(error: Transient, attempt: int) -> float:
        waits.append(_wait_s(error, attempt))
        return waits[-1]

    monkeypatch.setattr(clients, "_wait_s", kept)
    started = time.monotonic()
    complete(handler)
    assert time.monotonic() - started >= 0.6 and len(bodies) == 2
    assert len(waits) == 1 and 0.6 <= waits[0] <= 0.6 + clients.FIRST_WAIT_S


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": "x"}, None),
        ({"retry-after": f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_retry_after_as_seconds(headers: dict[str, str] | None, expected: float | None) -> None:
    assert retry_after_s(headers) == expected


def test_retry_after_as_a_date() -> None:
    """By the clock of the server, where it tells that; ours may be ahead or behind."""
    asked = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_s(asked) == 0.0
    assert retry_after_s({**asked, "Date": "Wed, 21 Oct 2015 07:27:30 GMT"}) == 30.0
    assert retry_after_s({**asked, "Date": "Wed, 21 Oct 2015 07:29:00 GMT"}) == 0.0
    assert retry_after_s({**asked, "Date": "yesterday"}) is None


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
        return web.json_response({"detail": "unknown fields: response_format, seed"}, status=422)

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


@pytest.mark.parametrize(
    "text",
    [
        "Could not finish the message because max_tokens or model output limit was reached.",
        "The response was filtered due to the prompt triggering the content management policy.",
    ],
)
def test_a_probe_whose_text_or_length_is_refused_has_found_the_model(text: str) -> None:
    handler, bodies = scripted(lambda _: web.Response(status=400, text=text))

    async def probe(urls: list[str]) -> None:
        async with LLMClient() as client:
            await client.probe([parse_model(f"custom/m@{urls[0]}")])

    asyncio.run(served([handler], probe))
    assert len(bodies) == 1


def test_a_probe_needs_one_server_of_several() -> None:
    """One that is not there, or only answers that it cannot, is told of; a wrong key at one is a fault of all."""
    (port,) = free_ports()
    down, _ = scripted(*[lambda _: web.Response(status=503)] * PROBE_ATTEMPTS)
    locked, _ = scripted(lambda _: web.Response(status=403))
    up, _ = scripted(*[lambda _: good()] * 3)

    async def probe(*urls: str) -> list[str]:
        async with LLMClient() as client:
            return await client.probe([parse_model(f"custom/m@{','.join(urls)}")])

    async def work(urls: list[str]) -> None:
        gone = f"http://127.0.0.1:{port}/v1"
        first, second = await probe(gone, urls[0], urls[2])
        assert f"m at {gone}: no connection" in first and "status 503" in second
        assert first.endswith("the other servers of m are used until it is there")
        with pytest.raises(UserError, match="no connection"):
            await probe(gone)
        with pytest.raises(UserError, match="the key is refused"):
            await probe(gone, urls[1], urls[2])

    asyncio.run(served([down, locked, up], work))


def test_a_probe_outlives_a_passing_fault() -> None:
    handler, bodies = scripted(lambda _: web.Response(status=500), lambda _: good())

    async def work(urls: list[str]) -> None:
        async with LLMClient() as client:
            await client.probe([parse_model(f"custom/m@{urls[0]}")])

    asyncio.run(served([handler], work))
    assert len(bodies) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "passing") for status in (408, 409, 425, 429, 500, 503, 599)),
        *((status, "key") for status in (401, 403)),
        (404, "not found"),
        *((status, "refused") for status in (0, 302, 400, 402, 422)),
    ],
)
def test_what_a_status_stands_for(status: int, kind: str) -> None:
    assert kind_of(status) == kind


def test_waits_double_up_to_a_bound() -> None:
    """The first is at most 0.5 s, as the seventh would be 32 s but for the bound."""
    found = [[_wait_s(Transient("busy"), attempt) for _ in range(50)] for attempt in range(1, 9)]
    for waits, longest in zip(found, (0.5, 1, 2, 4, 8, 16, 30, 30), strict=True):
        assert longest / 2 <= min(waits) <= max(waits) <= longest
    assert 7 <= _wait_s(Transient("busy", 7.0), 3) <= 7.25


class Pace:
    """Stands for a limiter: it keeps who asked for a turn instead of making them wait."""

    made: list[tuple[float, float]] = []
    turns: list[int] = []

    def __init__(self, most: float, period_s: float) -> None:
        self.number = len(self.made)
        self.made.append((most, period_s))

    async def acquire(self) -> None:
        """Take a turn."""
        self.turns.append(self.number)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> type[Pace]:
    """Put it in the limiter's place."""
    monkeypatch.setattr(Pace, "made", [])
    monkeypatch.setattr(Pace, "turns", [])
    monkeypatch.setattr(clients, "AsyncLimiter", Pace)
    return Pace


@pytest.mark.parametrize("limit", [None, 30])
def test_every_attempt_takes_a_turn_of_its_model(pace: type[Pace], limit: int | None) -> None:
    """A probe, a call with a repeat and one without a refused setting: five requests to m, one to n."""
    handler, bodies = scripted(
        lambda _: good(),
        lambda _: web.Response(status=500),
        lambda _: good(),
        lambda _: web.json_response({"detail": "seed: unknown field"}, status=422),
        lambda _: good(),
    )

    async def work(urls: list[str]) -> None:
        m, n = (parse_model(f"custom/{name}@{urls[0]}") for name in "mn")
        async with LLMClient(Limits(requests_per_minute=limit)) as client:
            await client.probe([m])
            for model in (m, m, n):
                await client.complete(model, CHAT, PLAIN)

    asyncio.run(served([handler], work))
    assert [body["model"] for body in bodies] == ["m"] * 5 + ["n"]
    assert pace.turns == ([0] * 5 + [1] if limit else []) and pace.made == ([(1, 2.0)] * 2 if limit else [])


def test_requests_are_spaced_evenly_however_many_wait() -> None:
    """At 1200 a minute the tenth request leaves 9 x 0.05 s after the first, or later."""
    handler, bodies = scripted(lambda _: good())

    async def work(urls: list[str]) -> float:
        model = parse_model(f"custom/m@{urls[0]}")
        async with LLMClient(Limits(requests_per_minute=1200)) as client:
            started = time.monotonic()
            await asyncio.gather(*(client.complete(model, CHAT, PLAIN) for _ in range(10)))
            return time.monotonic() - started

    assert asyncio.run(served([handler], work)) >= 9 * 0.05 - 0.001 and len(bodies) == 10


def test_nobody_there() -> None:
    async def work() -> None:
        async with LLMClient(Limits(attempts=1)) as client:
            await client.complete(ModelSpec("m", "m", ("http://127.0.0.1:9/v1",)), CHAT, PLAIN)

    with pytest.raises(Unreachable, match="no connection to http://127.0.0.1:9/v1"):
        asyncio.run(work())


def test_truncation_is_sent_only_where_it_is_set() -> None:
    assert Sampling(0.5).parameters() == {"temperature": 0.5}
    assert Sampling(0.5, top_p=0.7, top_k=50).parameters() == {"temperature": 0.5, "top_p": 0.7, "top_k": 50}
