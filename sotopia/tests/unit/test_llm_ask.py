"""One question until its answer can be used: the same requests after a kill at any point, and none paid twice."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.llm.answers import Answer, AnswerError
from sotopia_sdpo.llm.ask import ATTEMPTS, Asker, Question, Unusable, identity
from sotopia_sdpo.llm.cache import AnswerCache, Request
from sotopia_sdpo.llm.client import Sampling
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.llm.usage import Usage


MODEL = parse_model("custom/m@http://h/v1")
SCHEMA = {"type": "object"}


class Killed(BaseException):
    """The process is gone."""


def read(text: str) -> str:
    """Take what begins with "good"."""
    if not text.startswith("good"):
        raise AnswerError(f"{text} is bad")
    return text


def question(text: str = "q") -> Question[str]:
    return Question(text, "name", SCHEMA, read)


class Runs:
    """Processes over one store of answers, each killed after so many calls."""

    def __init__(self, share: int, answers: AnswerCache) -> None:
        """Let `share` of 10 answers be good, by the request."""
        self.share = share
        self.answers = answers
        self.asked: list[Request] = []
        self.paid: list[Request] = []

    def run(self, texts: list[str], kill_after: int | None = None) -> list[str]:
        """Ask all, one after the other."""
        calls = 0

        async def fetch(request: Request, _: Sampling) -> Answer:
            nonlocal calls
            self.asked.append(request)
            if (stored := self.answers.get(request)) is None:
                if calls == kill_after:
                    raise Killed
                calls += 1
                self.paid.append(request)
                digest = hashlib.sha256(request.text.encode()).hexdigest()
                stored = Answer(f"{'good' if int(digest, 16) % 10 < self.share else 'bad'} {digest}", Usage(1), False)
                self.answers.put(request, stored)
            return stored

        async def one(text: str) -> str:
            try:
                return await Asker(MODEL, 0, self.answers, fetch).ask(question(text))
            except Unusable as err:
                return f"unusable: {err}"

        async def all_of_them() -> list[str]:
            return [await one(text) for text in texts]

        self.asked = []
        return asyncio.run(all_of_them())


@given(
    st.integers(0, 10),
    st.lists(st.text("ab", max_size=2), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=4),
)
def test_a_run_that_was_killed_asks_the_same_again(share: int, texts: list[str], kills: list[int]) -> None:
    with AnswerCache(Path(":memory:")) as answers, AnswerCache(Path(":memory:")) as others:
        straight, killed = Runs(share, answers), Runs(share, others)
        expected = straight.run(texts)
        for kill in kills:
            try:
                killed.run(texts, kill)
            except Killed:
                assert killed.asked == straight.asked[: len(killed.asked)]
        assert killed.run(texts) == expected and killed.asked == straight.asked
        assert killed.paid == straight.paid and len({request.key for request in killed.paid}) == len(killed.paid)


def ask(replies: list[str], rounds: int = 0, seed: int = 0) -> tuple[list[tuple[Request, Sampling]], str]:
    """Ask one question whose answers are these, after so many finished runs have given it up."""
    calls: list[tuple[Request, Sampling]] = []

    async def fetch(request: Request, sampling: Sampling) -> Answer:
        calls.append((request, sampling))
        return Answer(replies[len(calls) - 1], Usage(1), False)

    with AnswerCache(Path(":memory:")) as answers:
        asker = Asker(MODEL, seed, answers, fetch)
        for _ in range(rounds):
            answers.give_up([asker._request(question(), [{"role": "user", "content": "q"}], 0)[0]])
        try:
            return calls, asyncio.run(asker.ask(question()))
        except Unusable as err:
            assert err.first.messages == [{"role": "user", "content": "q"}] and "round" not in err.first.settings
            return calls, f"unusable: {err}"


def test_what_is_wrong_is_put_back_to_the_model() -> None:
    calls, found = ask(["one", "two", "good"])
    chats = [request.messages for request, _ in calls]
    assert found == "good" and [len(chat) for chat in chats] == [1, 3, 5] and chats[2][:3] == chats[1]
    assert [message["role"] for message in chats[2]] == ["user", "assistant", "user", "assistant", "user"]
    assert chats[1][1]["content"] == "one" and "one is bad" in chats[1][2]["content"]
    assert chats[2][3]["content"] == "two" and "two is bad" in chats[2][4]["content"]


def test_attempts_end_with_the_last_fault() -> None:
    calls, found = ask([f"bad{i}" for i in range(9)])
    assert len(calls) == ATTEMPTS and found == f"unusable: bad{ATTEMPTS - 1} is bad"


@pytest.mark.parametrize(("rounds", "seed"), [(0, 0), (0, 7), (1, 0), (3, 7)])
def test_a_later_round_is_asked_with_another_seed(rounds: int, seed: int) -> None:
    ((request, sampling),), _ = ask(["good"], rounds, seed)
    assert sampling.seed == seed + rounds and sampling.schema == SCHEMA and sampling.schema_name == "name"
    assert request.settings == {**sampling.parameters(), **({"round": rounds} if rounds else {})}


def test_a_round_is_not_the_next_seed() -> None:
    """A seed that users type may be any, and another run's answers are not a fresh try."""
    assert ask(["good"], rounds=1, seed=0)[0][0][0].key != ask(["good"], rounds=0, seed=1)[0][0][0].key


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("custom/m@http://h/v1", "custom/m@http://i:8/v1", True),
        ("custom/m@http://h/v1", "custom/m@http://h/v1,http://i/v1", True),
        ("custom/m@http://h/v1", "custom/n@http://h/v1", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("vertex_ai/x@1", "vertex_ai/x@2", False),
        ("m", "custom/m@http://h/v1", False),
    ],
)
def test_whose_answer_it_is(monkeypatch: pytest.MonkeyPatch, one: str, other: str, is_same: bool) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert (identity(parse_model(one)) == identity(parse_model(other))) is is_same


def test_a_providers_name_elsewhere_is_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    found = {identity(parse_model("gpt-4o"))}
    for url in ("http://h/v1", "http://i/v1", "http://i/v1/"):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        found.add(identity(parse_model("gpt-4o")))
    assert len(found) == 3
