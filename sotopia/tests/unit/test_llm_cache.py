"""Kept answers: the same request finds them in any process, another one does not."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.cache import CLAIM_TTL_S, AnswerCache, Request
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.sqlite_file import LOCKS


CHAT = [{"role": "user", "content": "Hi"}]
REQUEST = Request("m", CHAT, {"seed": 0})
STORED = Answer("a 中\0\ufffd", Usage(1, 3, 2, 0.25), True)


@pytest.mark.parametrize(
    "answer", [STORED, Answer("", Usage(1, 0, 0, None), False), Answer("b", Usage(1, 1, 1, 0.0), False)]
)
def test_an_answer_is_found_again_by_another_process(tmp_path: Path, answer: Answer) -> None:
    with AnswerCache(tmp_path / "new" / "answers.db") as answers:
        assert answers.get(REQUEST) is None
        answers.put(REQUEST, answer)
        with AnswerCache(tmp_path / "new" / "answers.db") as beside:
            assert beside.get(REQUEST) == answers.get(REQUEST) == answer


@pytest.mark.parametrize(
    "other",
    [
        Request("n", CHAT, {"seed": 0}),
        Request("m", [{"role": "user", "content": "Hi "}], {"seed": 0}),
        Request("m", [*CHAT, *CHAT], {"seed": 0}),
        Request("m", CHAT, {"seed": 1}),
        Request("m", CHAT, {"seed": 0, "round": 1}),
        Request("m", CHAT, {"seed": "0"}),
    ],
)
def test_another_request_is_another(tmp_path: Path, other: Request) -> None:
    with AnswerCache(tmp_path / "answers.db") as answers:
        answers.put(REQUEST, STORED)
        answers.give_up([REQUEST])
        assert answers.get(other) is None and answers.round(other) == 0
        answers.put(other, Answer("b", Usage(1), False))
        assert answers.get(REQUEST) == STORED


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.booleans()), st.randoms(use_true_random=False))
def test_the_order_of_settings_is_no_difference(settings: dict[str, Any], random: Any) -> None:
    names = list(settings)
    random.shuffle(names)
    assert Request("m", CHAT, settings).key == Request("m", CHAT, {name: settings[name] for name in names}).key


def test_a_round_is_a_finished_run_whatever_is_given_up_in_it(tmp_path: Path) -> None:
    other = REQUEST._replace(model="n")
    with AnswerCache(tmp_path / "answers.db") as answers:
        assert answers.round(REQUEST) == 0
        answers.give_up([REQUEST, other, REQUEST])
        answers.give_up(iter([REQUEST]))
        answers.give_up([])
    with AnswerCache(tmp_path / "answers.db") as answers:
        assert (answers.round(REQUEST), answers.round(other)) == (2, 1)


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.db") as one, AnswerCache(tmp_path / "answers.db") as other:
        assert one.put(REQUEST, STORED) == STORED
        assert other.put(REQUEST, Answer("later", Usage(1))) == other.get(REQUEST) == one.get(REQUEST) == STORED


def test_a_call_is_claimed_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with AnswerCache(tmp_path / "answers.db") as one, AnswerCache(tmp_path / "answers.db") as other:
        assert one.claim(REQUEST) and one.claim(REQUEST) and not other.claim(REQUEST)
        assert other.claim(REQUEST._replace(model="n"))
        other.release(REQUEST)
        assert not other.claim(REQUEST)
        now[0] += CLAIM_TTL_S - 1
        one.renew()
        now[0] += CLAIM_TTL_S - 1
        assert not other.claim(REQUEST)
        now[0] += 1
        assert not other.claim(REQUEST)
        one.renew()
        now[0] += CLAIM_TTL_S
        assert not other.claim(REQUEST)
        now[0] += CLAIM_TTL_S / 4
        assert other.claim(REQUEST) and not one.claim(REQUEST)
        one.renew()
        one.release(REQUEST)
        assert not one.claim(REQUEST)
        other.release(REQUEST)
        assert one.claim(REQUEST)


def test_answers_of_an_older_version_are_read(tmp_path: Path) -> None:
    """Its file has no claims."""
    with AnswerCache(tmp_path / "answers.db") as answers:
        answers.put(REQUEST, STORED)
    with sqlite3.connect(tmp_path / "answers.db") as connection:
        connection.execute("DROP TABLE claims")
    with AnswerCache(tmp_path / "answers.db") as answers:
        assert answers.get(REQUEST) == STORED and answers.claim(REQUEST)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda path: path.write_text("no database" * 100), "cannot be used for the answers (file is not a database); move it away, or give --data-dir"),
        (lambda path: path.mkdir(), "cannot be used for the answers (unable to open database file); move it away, or give --data-dir"),
        (newer, "written by another version of this project (schema 9); move it away"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_hold_answers(tmp_path: Path, spoil: Any, fault: str) -> None:
    path = tmp_path / "answers.db"
    spoil(path)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {fault}')}$"):
        AnswerCache(path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/answers.db: cannot be used for the answers \(\[Errno 17\] File exists"):
        AnswerCache(tmp_path / "file" / "answers.db")


def foreign(path: Path, statement: str) -> None:
    """Make a database of something else with our version number."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_foreign_database_is_left_as_it_is(tmp_path: Path) -> None:
    """A store of ours has the same version number as a file of answers."""
    path = tmp_path / "answers.db"
    foreign(path, "CREATE TABLE episodes (pk TEXT)")
    before = path.read_bytes()
    with pytest.raises(UserError, match="answers.db: a database of something else, not of answers; move it away"):
        AnswerCache(path)
    assert path.read_bytes() == before


def test_a_table_of_other_columns_is_one_line(tmp_path: Path) -> None:
    foreign(tmp_path / "answers.db", "CREATE TABLE answers (x)")
    with AnswerCache(tmp_path / "answers.db") as answers:
        with pytest.raises(UserError, match="cannot be used for the answers .no such column: answer.; move it away"):
            answers.get(REQUEST)
        with pytest.raises(UserError, match="an answer cannot be kept"):
            answers.put(REQUEST, STORED)


def test_a_locked_file_is_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says who holds it, where the system tells, and does not tell to move paid answers away."""
    monkeypatch.setattr("sotopia_sdpo.sqlite_file.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "answers.db"
    with AnswerCache(path) as answers:
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(1, flush=True); input()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as holder:
            holder.stdout.readline()
            by = f" by process {holder.pid}" if LOCKS.exists() else ""
            for call in (
                lambda: answers.put(REQUEST, STORED),
                lambda: answers.claim(REQUEST),
                lambda: answers.give_up([REQUEST]),
            ):
                with pytest.raises(UserError, match=f"is locked.; it is being written{by}; wait until") as caught:
                    call()
                assert "move" not in str(caught.value) and "make room" not in str(caught.value)
            holder.communicate(b"\n")
        assert answers.put(REQUEST, STORED) == STORED


def test_a_file_that_is_waited_for_holds_up_nothing_else(tmp_path: Path) -> None:
    """Such as what prolongs claims, and other calls."""
    path = tmp_path / "answers.db"
    with AnswerCache(path) as answers, closing(sqlite3.connect(path, isolation_level=None)) as other:

        async def run() -> Answer:
            other.execute("BEGIN IMMEDIATE")
            put = asyncio.create_task(answers.aside(answers.put, REQUEST, STORED))
            claim = asyncio.create_task(answers.aside(answers.claim, REQUEST))
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert not put.done() and not claim.done()
            other.execute("COMMIT")
            assert await claim and put.done()
            return put.result()

        assert asyncio.run(run()) == STORED


@pytest.mark.parametrize("kept", [0, 4096, 8192])
def test_a_zeroed_file_is_one_line(tmp_path: Path, kept: int) -> None:
    """A disk may lose all of a file, or all but its first pages."""
    path = tmp_path / "answers.db"
    requests = [Request("m", CHAT, {"seed": seed}) for seed in range(300)]
    with AnswerCache(path) as answers:
        for request in requests:
            answers.put(request, Answer("long " * 100, Usage(1), False))
    data = path.read_bytes()
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    with (
        pytest.raises(UserError, match="answers.db: cannot be used for the answers .*; move it away, or give"),
        AnswerCache(path) as answers,
    ):
        for request in requests:
            answers.round(request)
            answers.get(request)
