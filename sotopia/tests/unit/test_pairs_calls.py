"""Processes that ask the same at once pay for it once, whatever becomes of the one that asks."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.llm import cache as caches
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.backends import Refused
from sotopia_sdpo.llm.budget import Budget
from sotopia_sdpo.llm.cache import AnswerCache, Request
from sotopia_sdpo.llm.client import Sampling
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.pairs import calls as modules
from sotopia_sdpo.pairs.calls import Calls, NotCalled
from sotopia_sdpo.run.flight import Flight


MODEL = parse_model("custom/m@http://h/v1")
REQUESTS = [Request("custom/m", [{"role": "user", "content": f"q{number}"}], {}) for number in range(20)]


class Client:
    """Answers each call in another way, after a while."""

    def __init__(self, name: str, asked: list[str], fails: int = 0) -> None:
        self.name = name
        self.asked = asked
        self.fails = fails

    async def complete(self, model: Any, chat: Any, *_: Any, **__: Any) -> Answer:
        self.asked.append(chat[0]["content"])
        await asyncio.sleep(0.01)
        if self.fails:
            self.fails -= 1
            raise Refused("filtered")
        return Answer(f"{self.name}{len(self.asked)}", Usage(1, 10, 5, None))

    async def probe(self, models: Any) -> None:
        """Find nothing wrong."""


class Crowd:
    """Processes with connections of their own to one file."""

    def __init__(self, stack: ExitStack, folder: Path, *clients: Client) -> None:
        self.caches = [stack.enter_context(AnswerCache(folder / "answers.db")) for _ in clients]
        self.calls = [
            Calls(MODEL, client, cache, Budget(None, MODEL), Flight(5))  # type: ignore[arg-type]
            for client, cache in zip(clients, self.caches, strict=True)
        ]

    async def ask(self, requests: list[Request]) -> list[list[Any]]:
        """Let all ask all at once."""
        asks = [
            asyncio.gather(*(calls.fetch(request, Sampling(0.0)) for request in requests), return_exceptions=True)
            for calls in self.calls
        ]
        return await asyncio.wait_for(asyncio.gather(*asks), 30)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "LOOK_AGAIN_S", 0.005)


def test_two_that_ask_the_same_pay_once_and_agree(tmp_path: Path) -> None:
    asked: list[str] = []
    with ExitStack() as stack:
        crowd = Crowd(stack, tmp_path, *(Client(name, asked) for name in "abc"))
        found = asyncio.run(crowd.ask(REQUESTS))
        assert found[0] == found[1] == found[2] and len(asked) == len(set(asked)) == 20
        assert sum(calls.paid.calls for calls in crowd.calls) == 20
        assert sum(calls.kept.calls for calls in crowd.calls) == 40
        assert [crowd.caches[0].get(request) for request in REQUESTS] == found[0]


def test_what_fails_in_one_is_asked_by_the_other(tmp_path: Path) -> None:
    asked: list[str] = []
    with ExitStack() as stack:
        crowd = Crowd(stack, tmp_path, Client("a", asked, fails=99), Client("b", asked))
        refused, answered = asyncio.run(crowd.ask(REQUESTS[:3]))
        assert [answer.text[0] for answer in answered] == ["b"] * 3
        assert all(isinstance(one, Refused) or one in answered for one in refused)


def test_the_call_of_a_killed_process_is_made_when_its_claim_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "CLAIM_TTL_S", 0.1)
    asked: list[str] = []
    with ExitStack() as stack, AnswerCache(tmp_path / "answers.db") as killed:
        assert killed.claim(REQUESTS[0])
        crowd = Crowd(stack, tmp_path, Client("a", asked))
        assert asyncio.run(crowd.ask(REQUESTS[:1]))[0][0].text == "a1"


def test_a_stop_does_not_wait_for_another_process(tmp_path: Path) -> None:
    asked: list[str] = []
    with ExitStack() as stack, AnswerCache(tmp_path / "answers.db") as other:
        assert other.claim(REQUESTS[0])
        crowd = Crowd(stack, tmp_path, Client("a", asked))
        crowd.calls[0].flight.stop("stopped")
        assert isinstance(asyncio.run(crowd.ask(REQUESTS[:1]))[0][0], NotCalled) and not asked


def test_a_long_call_keeps_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "CLAIM_TTL_S", 0.3)
    monkeypatch.setattr(modules, "RENEW_S", 0.02)
    asked: list[str] = []

    class Slow(Client):
        async def complete(self, *args: Any, **more: Any) -> Answer:
            await asyncio.sleep(0.8)
            return await super().complete(*args, **more)

    async def work(crowd: Crowd) -> list[list[Any]]:
        keepers = [asyncio.create_task(calls.keep()) for calls in crowd.calls]
        try:
            return await crowd.ask(REQUESTS[:1])
        finally:
            for keeper in keepers:
                keeper.cancel()

    with ExitStack() as stack:
        found = asyncio.run(work(Crowd(stack, tmp_path, Slow("a", asked), Slow("b", asked))))
    assert found[0] == found[1] and len(asked) == 1
