"""The scripted server over HTTP: what it counts, and whom the rate of wrong annotations concerns."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web
from annotation_requests import TEMPLATE, ask, dialogue, locating, task_for
from test_simulated import SESSION
from typer.testing import CliRunner

from sotopia_sdpo import cli
from sotopia_sdpo.play.dialogue import chat_of
from sotopia_sdpo.simulated import acts, server
from sotopia_sdpo.simulated.annotator import annotate
from sotopia_sdpo.simulated.faults import Faults
from sotopia_sdpo.simulated.replies import ChatRequest
from sotopia_sdpo.simulated.server import SimulatedServer


Post = Callable[[ChatRequest], Awaitable[dict[str, Any]]]


def served(faults: Faults, work: Callable[[SimulatedServer, Post], Awaitable[Any]]) -> dict[str, Any]:
    """Run a scripted server in this process and the work against it; give its counters."""

    async def run() -> dict[str, Any]:
        simulated = SimulatedServer(0, faults)
        runner = web.AppRunner(simulated.app(), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession() as client:

            async def post(request: ChatRequest) -> dict[str, Any]:
                body = {"model": request.model, "messages": request.messages, "temperature": request.temperature}
                async with client.post(f"{url}/v1/chat/completions", json=body) as response:
                    return await response.json()

            await work(simulated, post)
            async with client.get(f"{url}/stats") as response:
                found = await response.json()
        await runner.cleanup()
        return found

    return asyncio.run(run())


def text_of(completion: dict[str, Any]) -> str:
    """Take the text out of an answer."""
    return completion["choices"][0]["message"]["content"]


def test_wrong_annotations_come_at_their_rate_and_anew() -> None:
    request = locating(dialogue([acts.ASK, acts.SHARE, acts.GREEDY]))
    right = json.dumps(annotate(task_for(request)))
    told: list[str] = []

    async def work(_: SimulatedServer, post: Post) -> None:
        told.extend([text_of(await post(request)) for _ in range(600)])

    stats = served(Faults(rate_annotation=0.3), work)
    assert stats["annotations"] == stats["answers"] == 600 and stats["repeated_answers"] == 599
    assert (
        stats["annotations wrong"] == sum(text != right for text in told)
        and 0.25 < stats["annotations wrong"] / 600 < 0.35
    )


def test_agents_and_evaluators_are_not_touched() -> None:
    prompt = f'{SESSION.backgrounds[0]}\nAnn Lee said: "Hello"\nRate believability, social_rules'
    asked = [
        ChatRequest("m", chat_of(SESSION, 0, TEMPLATE), 0.0, None),
        ChatRequest("m", [{"role": "user", "content": prompt}], 0.0, None),
    ]
    told: list[list[str]] = []

    async def work(_: SimulatedServer, post: Post) -> None:
        told.append([text_of(await post(request)) for request in asked])

    stats = [served(Faults(rate_annotation=rate), work) for rate in (0.0, 1.0)]
    assert told[0] == told[1] and stats[1]["answers"] == 2 and "annotations" not in stats[1]


def test_a_spoilt_annotation_is_wrong_but_no_answer() -> None:
    async def work(_: SimulatedServer, post: Post) -> None:
        await post(locating(dialogue([acts.GREEDY])))

    stats = served(Faults(rate_broken_json=1.0), work)
    assert (stats["annotations"], stats["annotations wrong"]) == (1, 1) and "answers" not in stats


def test_a_block_in_another_form_is_refused_by_the_server() -> None:
    async def work(_: SimulatedServer, post: Post) -> None:
        refused = await post(ask("Told.", {"dialogue": "{}"}, ""))
        assert refused["error"]["code"] == 400 and "is not an object" in refused["error"]["message"]

    assert "answers" not in served(Faults(), work)


def test_an_answer_counts_once_it_is_delivered() -> None:
    """Two clients go away while they are kept waiting, two get their answer: one repetition."""
    request = locating(dialogue([acts.GREEDY]))

    async def work(simulated: SimulatedServer, post: Post) -> None:
        for asked in (1, 2):
            leaving = asyncio.create_task(post(request))
            while simulated.counts["requests"] < asked:
                await asyncio.sleep(0.001)
            leaving.cancel()
        for _ in range(2):
            await post(request)

    stats = served(Faults(latency_ms=300), work)
    assert stats["requests"] == 4 and stats["answers"] == stats["annotations"] == 2 and stats["repeated_answers"] == 1


def test_the_command_has_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SimulatedServer] = []

    async def serve(simulated: SimulatedServer, host: str, port: int) -> None:
        started.append(simulated)

    monkeypatch.setattr(server, "serve", serve)
    done = CliRunner().invoke(cli.app, ["simulate", "--rate-annotation", "0.25"])
    assert done.exit_code == 0 and started[0].faults == Faults(rate_annotation=0.25)


def test_the_key_is_checked_before_the_body_is_read() -> None:
    """Who has no key learns nothing of what the server takes: 401 for a body that is no JSON, too."""

    async def ask() -> list[int]:
        runner = web.AppRunner(SimulatedServer(api_key="secret").app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
        statuses = []
        async with ClientSession() as client:
            for key in ("wrong", "secret"):
                async with client.post(url, data=b"{", headers={"Authorization": f"Bearer {key}"}) as response:
                    statuses.append(response.status)
        await runner.cleanup()
        return statuses

    assert asyncio.run(ask()) == [401, 400]
