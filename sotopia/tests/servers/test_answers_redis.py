"""Answers of annotators in a Redis that hosts share: one payer a question, whoever is killed, comes late or is gone."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from running import environment, redis_at, serving
from test_pairs_calls import MODEL, REQUESTS, Client

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.budget import Budget
from sotopia_sdpo.llm.cache import AnswerCache, Request
from sotopia_sdpo.llm.kept import KeptAnswers
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.pairs import calls as calls_module
from sotopia_sdpo.pairs.calls import Calls
from sotopia_sdpo.run.flight import Flight
from sotopia_sdpo.store import open_answers
from sotopia_sdpo.store.redis import answers as module


ROOT = Path(__file__).resolve().parents[3]
REQUEST = Request("m", [{"role": "user", "content": "Hi"}], {"seed": 0})
OTHER = REQUEST._replace(model="n")
STORED = Answer("a 中\0\ufffd", Usage(1, 3, None, 0.25), True)
Open = Callable[[], KeptAnswers]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One server for all tests."""
    (number,) = free_ports()
    with redis_at(tmp_path_factory.mktemp("redis"), number):
        yield number


@pytest.fixture
def url(port: int) -> str:
    """An empty database of the server, others' keys left alone by a prefix."""
    redis.Redis(port=port).flushall()
    return f"redis://127.0.0.1:{port}/1?prefix=team:"


@pytest.fixture(params=["redis", "file"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Iterator[Open]:
    """Open the same answers again and again, as other processes do: what follows holds for both kinds."""
    with ExitStack() as stack:
        place = url if request.param == "redis" else "sqlite:///any.db"
        yield lambda: stack.enter_context(open_answers(tmp_path / "data", place))


def test_an_answer_is_found_again_and_the_first_one_stays(open_one: Open) -> None:
    one, other = open_one(), open_one()
    assert one.get(REQUEST) is None
    assert one.put(REQUEST, STORED) == STORED
    assert other.put(REQUEST, Answer("late", Usage(1))) == other.get(REQUEST) == one.get(REQUEST) == STORED
    assert one.get(OTHER) is None


def test_a_claim_is_one_owners(open_one: Open) -> None:
    one, other = open_one(), open_one()
    assert one.claim(REQUEST) and one.claim(REQUEST) and not other.claim(REQUEST) and other.claim(OTHER)
    other.release(REQUEST)
    assert not other.claim(REQUEST)
    one.release(REQUEST)
    assert other.claim(REQUEST) and not one.claim(REQUEST)


def test_rounds_count_finished_runs(open_one: Open) -> None:
    one = open_one()
    one.give_up([REQUEST, OTHER, REQUEST])
    one.give_up(iter([REQUEST]))
    one.give_up([])
    other = open_one()
    assert (other.round(REQUEST), other.round(OTHER)) == (2, 1)


def test_a_claim_that_is_not_renewed_runs_out(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is renewed late is its owner's again, unless another has taken it."""
    monkeypatch.setattr(module, "CLAIM_TTL_S", 0.2)
    with open_answers(tmp_path, url) as late, open_answers(tmp_path, url) as other:
        assert late.claim(REQUEST) and late.claim(OTHER) and not other.claim(REQUEST)
        time.sleep(0.25)
        assert not other.claim(REQUEST)
        time.sleep(0.1)
        monkeypatch.setattr(module, "CLAIM_TTL_S", 60.0)
        assert other.claim(REQUEST)
        late.renew()
        assert not other.claim(OTHER) and not late.claim(REQUEST)
        late.release(REQUEST)
        assert not late.claim(REQUEST)


def test_giving_up_may_be_repeated_when_its_answer_was_lost(url: str, tmp_path: Path) -> None:
    with open_answers(tmp_path, url) as one:
        run = one._run  # type: ignore[attr-defined]
        one._run = lambda *arguments: (run(*arguments), run(*arguments))  # type: ignore[attr-defined]
        one.give_up([REQUEST])
        assert one.round(REQUEST) == 1


def test_the_file_from_before_is_read_and_shared(url: str, tmp_path: Path) -> None:
    """Who has paid answers in a data folder does not pay again, nor do the others."""
    with AnswerCache(tmp_path / "answers.db") as file:
        file.put(REQUEST, STORED)
        file.give_up([OTHER])
    with open_answers(tmp_path, url) as one:
        assert one.get(REQUEST) == STORED and one.round(OTHER) == 1
        one.give_up([OTHER])
    with open_answers(tmp_path / "elsewhere", url) as other:
        assert other.get(REQUEST) == STORED and other.get(OTHER) is None
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"answer": 1, "usage": [1]}', "[" * 100_000])
def test_a_damaged_answer_is_one_line(url: str, port: int, tmp_path: Path, text: str) -> None:
    key = f"team:sdpo:answer:{REQUEST.key}"
    redis.Redis(port=port, db=1).set(key, text)
    with (
        open_answers(tmp_path, url) as one,
        pytest.raises(UserError, match=rf"key {key}.*; delete it to have") as told,
    ):
        one.get(REQUEST)
    assert "\n" not in str(told.value)


def test_a_server_that_drops_paid_answers_is_refused(url: str, port: int, tmp_path: Path) -> None:
    server = redis.Redis(port=port)
    server.config_set("maxmemory", "100mb")
    server.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(UserError, match="maxmemory-policy is allkeys-lru"):
            open_answers(tmp_path, url)
    finally:
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("maxmemory", "0")


def test_calls_of_three_owners_are_paid_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 questions, asked by all at once."""
    import asyncio

    from sotopia_sdpo.llm.client import Sampling

    monkeypatch.setattr(calls_module, "LOOK_AGAIN_S", 0.005)
    asked: list[str] = []

    async def ask(owner: Calls) -> list[Answer]:
        return await asyncio.gather(*(owner.fetch(request, Sampling(0.0)) for request in REQUESTS))

    async def ask_all(owners: list[Calls]) -> list[list[Answer]]:
        return await asyncio.wait_for(asyncio.gather(*map(ask, owners)), 60)

    with ExitStack() as stack:
        owners = [
            Calls(
                MODEL,
                Client(name, asked),  # type: ignore[arg-type]
                stack.enter_context(open_answers(tmp_path / name, url)),
                Budget(None, MODEL),
                Flight(5),
            )
            for name in "abc"
        ]
        found = asyncio.run(ask_all(owners))
    assert found[0] == found[1] == found[2] and len(asked) == len(set(asked)) == 20


def negatives(count: int) -> str:
    """Write negatives with texts of their own."""
    rows = []
    for number in range(count):
        turns = [("human", f"You are Ann, number {number}; persuade Bob."), ("gpt", f"Give me {number}!")]
        turns += [("human", "No."), ("gpt", f"Then {number + 1}, you fool.")]
        about = {"episode": f"e{number}", "env": f"v{number}", "agents": ["ann", "bob"], "agent_position": 0}
        dialogue = [{"from": speaker, "value": text} for speaker, text in turns]
        rows.append({"conversations": dialogue, **about, "goal": 3, "relationship": 1})
    return json.dumps(rows)


def test_processes_with_separate_folders_pay_once_also_when_one_is_killed(url: str, tmp_path: Path) -> None:
    """Three run locate.py on 30 negatives; the killed one has had at most two questions in flight."""
    with serving("--latency-ms", "150") as server, ExitStack() as stack:
        processes = []
        for number in range(3):
            folder = tmp_path / f"host-{number}"
            folder.mkdir()
            (folder / "negative_data.json").write_text(negatives(30), "utf-8")
            command = [sys.executable, str(ROOT / "dpo" / "locate.py"), "--model", server.model("annotator")]
            command += ["--concurrency", "2", "--db", url, "--data-dir", str(folder)]
            env = environment(CUSTOM_API_KEY="none")
            with (folder / "out").open("wb") as out:
                processes.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env))
            stack.callback(processes[-1].kill)
        while server.stats().get("answers", 0) < 6:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.02)
        processes[0].send_signal(signal.SIGKILL)
        assert [process.wait(120) for process in processes[1:]] == [0, 0]
        repeated = server.stats()["repeated_answers"]
    found = [
        json.loads((tmp_path / f"host-{number}" / "negative_data_error.json").read_text("utf-8")) for number in (1, 2)
    ]
    assert found[0] == found[1] and len(found[0]) == 30
    assert repeated <= 2
    assert not list(tmp_path.glob("host-*/answers.db"))
