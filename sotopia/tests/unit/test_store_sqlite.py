"""The SQLite store: the contract, several processes, kill -9, and files that are not ours."""

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from store_contract import TAG, StoreContract, make_episode

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.sqlite_file import connect
from sotopia_sdpo.store import data_home, database_url, open_store
from sotopia_sdpo.store.base import PROFILE_KINDS
from sotopia_sdpo.store.sqlite import SqliteStore
from sotopia_sdpo.store.urls import without_password


UNIT = Path(__file__).parent
WRITER = """
import sys
from store_contract import make_episode
from sotopia_sdpo.store import open_store
store = open_store(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    episode = make_episode(number)
    if store.claim(episode.key, sys.argv[4], 60):
        store.put_episode(episode, sys.argv[4])
        print(number, flush=True)
"""


def start_writer(url, first, last, owner):
    """Start a process that claims and writes episodes, and prints each number once it is written."""
    path = os.pathsep.join([str(UNIT), str(UNIT.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WRITER, url, str(first), str(last), owner]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


class TestSqlite(StoreContract):
    @pytest.fixture
    def open_again(self, tmp_path):
        return lambda: SqliteStore(tmp_path / "new" / "folder" / "s.db")


def test_processes_share_the_work(tmp_path):
    """Two processes are given the same 60 episodes: each is written by one of them, and none is lost."""
    url = f"sqlite:///{tmp_path}/s.db"
    writers = [start_writer(url, 0, 60, f"owner{n}") for n in range(2)]
    written = [int(line) for writer in writers for line in writer.communicate(timeout=60)[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(written) == list(range(60))
    with open_store(url) as store:
        assert len(store.heads()) == 60


def test_kill_9_loses_nothing_that_was_written(tmp_path):
    """What the killed process reported is there; its claim keeps others off, until it runs out."""
    url = f"sqlite:///{tmp_path}/s.db"
    writer = start_writer(url, 0, 100_000, "victim")
    reported = [int(writer.stdout.readline()) for _ in range(25)]
    writer.send_signal(signal.SIGKILL)
    reported += [int(line) for line in writer.communicate()[0].split("\n")[:-1]]
    with open_store(url) as store:
        heads = store.heads()
        assert {head.environment for head in heads} >= {f"env{number}" for number in reported}
        assert len(heads) <= len(reported) + 1
        assert all(store.get_episode(head.pk).head == head for head in heads)


def write_shared(folder, owner):
    """Claim and write the same 160 episodes as others, and note each once it is written."""
    with SqliteStore(folder / "s.db") as store, (folder / owner).open("w", buffering=1) as written:
        for episode in map(make_episode, range(160)):
            if store.claim(episode.key, owner, 60) and store.put_episode(episode, owner):
                written.write(f"{episode.key.combo}\n")


def test_sixteen_processes_and_two_are_killed(tmp_path):
    """Each episode is written once; what a killed one had claimed and not written is its own for a while."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_shared, args=(tmp_path, f"owner{n}")) for n in range(16)]
    for process in processes:
        process.start()
    while not sum(path.stat().st_size for path in tmp_path.glob("owner*")):
        time.sleep(0.001)
    for process in processes[:2]:
        process.kill()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes[2:]] == [0] * 14
    reported = [line for path in tmp_path.glob("owner*") for line in path.read_text().splitlines()]
    with SqliteStore(tmp_path / "s.db") as store:
        found = [episode.key.combo for episode in store.episodes()]
    assert len(set(reported)) == len(reported) and set(reported) <= set(found)
    assert len(set(found)) == len(found) >= 158


def open_at_once(paths, barrier, failures):
    """Open each store in almost the same moment as other processes."""
    for path in paths:
        barrier.wait()
        time.sleep(random.uniform(0, 0.002))
        try:
            SqliteStore(path).close()
        except UserError as err:
            failures.put(str(err))


def test_many_processes_make_one_database(tmp_path):
    """8 processes open 40 files that are not there yet: of 320 stores, 2 or 3 were once told that theirs is locked."""
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(8), context.SimpleQueue()
    arguments = ([tmp_path / f"{number}.db" for number in range(40)], barrier, failures)
    processes = [context.Process(target=open_at_once, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert failures.empty(), failures.get()
    assert [process.exitcode for process in processes] == [0] * 8


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path):
    """SQLite refuses the switch to WAL at once while another has begun to write, whatever timeout it was given."""
    other = connect(tmp_path / "s.db")
    other.execute("BEGIN IMMEDIATE")
    probe = connect(tmp_path / "s.db")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        probe.execute("PRAGMA journal_mode = WAL")
    with ThreadPoolExecutor() as pool:
        opened = pool.submit(SqliteStore, tmp_path / "s.db")
        with pytest.raises(TimeoutError):
            opened.result(0.1)
        other.execute("COMMIT")
        with opened.result() as store:
            assert store.put_episode(make_episode())


def test_waiting_for_a_file_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("sotopia_sdpo.sqlite_file.BUSY_TIMEOUT_S", 0.01)
    other = connect(tmp_path / "s.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="database is locked"):
        SqliteStore(tmp_path / "s.db")


def test_whatever_page_is_damaged(tmp_path):
    """All 20 episodes come, or one short line: never fewer without a word."""
    path = tmp_path / "s.db"
    with SqliteStore(path) as store:
        for number in range(20):
            store.put_episode(make_episode(number, reasoning="x" * 5000))
    data, told = path.read_bytes(), set()
    for place in range(0, len(data), 4096):
        path.write_bytes(data[:place] + b"\xa5" * 4096 + data[place + 4096 :])
        try:
            with SqliteStore(path) as store:
                assert len(list(store.episodes())) == len(store.heads()) == 20
        except UserError as err:
            assert len(str(err)) < 300
            told.add(str(err).removeprefix(f"{path}: ").partition(";")[0])
    assert told == {
        "file is not a database",
        "database disk image is malformed",
        "Could not decode to UTF-8 column 'text'",
    }


def test_threads_share_a_store(tmp_path):
    with SqliteStore(tmp_path / "s.db") as store, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: store.put_episode(make_episode(number)), range(100)))
        assert len(store.heads()) == 100


def test_claims_run_out_by_the_clock_that_nobody_sets(tmp_path, monkeypatch):
    """12 s, and a last call of 3 s, whatever time of day it is meanwhile."""
    now, day = 1000.0, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now + day)
    key = make_episode().key
    with SqliteStore(tmp_path / "s.db") as store:
        assert store.claim(key, "dead", 12)
        now, day = now + 11.9, 3600.0
        assert not store.claim(key, "you", 12)
        now, day = now + 0.2, -3600.0
        assert not store.claim(key, "you", 12)
        now += 2.9
        assert not store.claim(key, "you", 12) and store.claimers(key.tag) == {"dead"}
        now += 0.2
        assert store.claim(key, "you", 12)


def test_a_claim_from_before_the_machine_was_started_anew_is_no_claim(tmp_path, monkeypatch):
    """Its clock begins at 0 again; what an older version wrote by the time of day is as far away."""
    now = 90_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    key, later = make_episode().key, make_episode(1).key
    with SqliteStore(tmp_path / "s.db") as store:
        assert store.claim(key, "dead", 12)
        now = 30.0
        assert store.claimers(key.tag) == set()
        assert not store.claim(key, "you", 12)
        now += 3.1
        assert store.claim(key, "you", 12)
        store._connection.execute("INSERT INTO claims VALUES (?, ?, ?, ?, 'old', 1.8e9)", later)
        assert not store.claim(later, "you", 12)
        now += 3.1
        assert store.claim(later, "you", 12)


def fill(store, count):
    """Write so many heads, a thousand of each tag, each with a combo of its own."""
    store.put_episode(make_episode(tag="first"))
    with store._change() as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
            " INSERT INTO episodes SELECT 'pk' || i, 'tag' || (i % (?1 / 1000)), 'env' || i || '/ann/bob', 0, 0, status,"
            " environment, agents, models, agent_position, source_episode, failure FROM n, episodes",
            (count,),
        )


def total(store):
    """Count the episodes of all tags."""
    return sum(sum(statuses.values()) for statuses in store.counts().episodes.values())


def keys_of(count):
    """Return the keys of 900 of so many episodes."""
    return [make_episode(n, tag=f"tag{n % (count // 1000)}").key for n in range(1, 901)]


NEW = make_episode(0, tag="new").key


@pytest.mark.parametrize(
    ("call", "growth", "statements"),
    [
        (lambda store, _: len(store.heads(["tag7"])) == 1000, 1, 1),
        (lambda store, count: len(store.find_keys(keys_of(count))) == 900, 1, 1),
        (lambda store, _: store.claim(NEW, "me", 1), 1, 5),
        (lambda store, _: store.renew([NEW], "me", 1) == set(), 1, 3),
        (lambda store, _: store.get_episode(make_episode(tag="first").pk) is not None, 1, 1),
        (lambda store, _: store.put_episode(make_episode(1)), 1, 4),
        (lambda store, count: total(store) == count + 1, 4, 2),
    ],
    ids=["heads", "find_keys", "claim", "renew", "get", "put", "counts"],
)
def test_work_does_not_grow_with_the_database(tmp_path, call, growth, statements):
    """25,000 and 100,000 episodes: heads of a tag, keys, claims and writes use an index; only counts read all heads."""
    steps = []
    for count in (25_000, 100_000):
        with SqliteStore(tmp_path / f"{count}.db") as store:
            fill(store, count)
            ticks, told = [], []
            store._connection.set_progress_handler(lambda ticks=ticks: ticks.append(1), 10)
            store._connection.set_trace_callback(told.append)
            assert call(store, count)
            store._connection.set_progress_handler(None, 0)
            steps.append(len(ticks))
            assert len(told) == statements
    assert steps[1] <= growth * steps[0] * 1.1 + 5


def test_a_file_that_may_not_grow_is_told_as_full(tmp_path):
    """SQLite ends the transaction by itself then; what was stored stays, and smaller things have room."""
    with SqliteStore(tmp_path / "s.db") as store:
        store.put_episode(make_episode(1))
        store._connection.execute("PRAGMA max_page_count = 50")
        with pytest.raises(UserError, match="database or disk is full; make room on its disk"):
            store.put_episode(make_episode(2, reasoning="x" * 1_000_000))
        store.put_episode(make_episode(3))
        assert {head.key for head in store.heads()} == {make_episode(number).key for number in (1, 3)}


def test_a_missing_file_is_not_made_for_reading(tmp_path):
    with pytest.raises(UserError, match="there is no database here; `sotopia benchmark` or `sotopia db import"):
        open_store(f"sqlite:///{tmp_path}/none.db", create=False)
    assert not (tmp_path / "none.db").exists()


def test_files_that_are_not_ours(tmp_path):
    (tmp_path / "text.db").write_text("hello, this is no database at all, only text\n" * 100)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
    with sqlite3.connect(tmp_path / "newer.db") as connection:
        connection.execute("PRAGMA user_version = 7")
    (tmp_path / "file").touch()
    for name, message in [
        ("text.db", "file is not a database"),
        ("other.db", "a database of another program"),
        ("newer.db", "has form 7, expected 1"),
        ("file/s.db", "exists|Not a directory"),
        ("", "unable to open|directory"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            open_store(f"sqlite:///{tmp_path}/{name}")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="/: unable to open database file"):
        open_store("sqlite:////", create=False)


DAMAGED = ["", "{", "[]", "null", "5", "[" * 20_000, '{"pk": 1}', "\0", b"\xff\xfe"]


def damage(store, table, column, text):
    """Change a column as a user or a disk might."""
    store._connection.execute(f"UPDATE {table} SET {column} = ?", (text,))


@pytest.mark.parametrize("text", DAMAGED, ids=repr)
def test_a_damaged_episode_is_one_line(tmp_path, text):
    with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        store.put_episode(make_episode())
        damage(store, "texts", "text", text)
        for read in (lambda: list(store.episodes()), lambda: store.get_episode(make_episode().pk)):
            with pytest.raises(UserError, match=f"s.db: episode {make_episode().pk} is damaged .*; delete its tag"):
                read()
        assert store.heads() and store.delete_tag(TAG) == 1


def test_an_episode_without_its_text_is_one_line(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        store.put_episode(make_episode())
        store._connection.execute("DELETE FROM texts")
        with pytest.raises(UserError, match="is damaged"):
            list(store.episodes())


@pytest.mark.parametrize("text", DAMAGED, ids=repr)
@pytest.mark.parametrize("kind", PROFILE_KINDS)
def test_a_damaged_profile_is_one_line(tmp_path, kind, text):
    with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        store.put_entries([(kind, {"pk": "p"})])
        damage(store, "profiles", "text", text)
        for read in (lambda: list(store.profiles(kind)), lambda: store.get_profile(kind, "p")):
            with pytest.raises(UserError, match=f"s.db: {kind[:-1]} p is damaged .*; import it again"):
                read()


@pytest.mark.parametrize("column", ["agents", "models", "status"])
@pytest.mark.parametrize("text", ["", "{", "{}", "[" * 20_000, b"\xff"], ids=repr)
def test_a_damaged_head_is_one_line(tmp_path, column, text):
    with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        store.put_episode(make_episode())
        damage(store, "episodes", column, text)
        for read in (store.heads, lambda: store.find_keys([make_episode().key])):
            with pytest.raises(UserError, match=f"s.db: episode {make_episode().pk} of tag {TAG} is damaged"):
                read()
        assert store.delete_tag(TAG) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("my.db", "expected sqlite:///PATH or redis://HOST:PORT/N; a file is written sqlite:///my.db"),
        ("sqlite://my.db", "expected sqlite:///PATH"),
        ("sqlite:///", "expected sqlite:///PATH"),
        ("postgres://me:secret@host/x", "'postgres://host/x'"),
        ("redis://127.0.0.1:6379/zero", "N being a number"),
        ("redis:///0", "expected redis://HOST:PORT/N"),
        ("redis://host:port/0", "expected redis://HOST:PORT/N"),
        ("redis://me:secret@127.0.0.1:1/0", "redis://127.0.0.1:1/0: .*refused.*; check the address"),
        ("redis://127.0.0.1:1/0?password=secret", "redis://127.0.0.1:1/0: .*refused.*; check the address"),
        ("redis://127.0.0.1:1/0?max_connections=secret", "Invalid value for 'max_connections' in connection URL"),
    ],
)
def test_misspelt_urls(url, message):
    with pytest.raises(UserError, match=message) as caught:
        open_store(url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@h:1/0", "redis://h:1/0"),
        ("redis://me:sec@ret@h/0", "redis://h/0"),
        ("rediss://h/2?password=secret&db=1#secret", "rediss://h/2"),
        ("REDIS://me:secret@[::1]:3", "REDIS://[::1]:3"),
        ("redis://h/0?password=sec@ret", "redis://…"),
        ("redis://:sec/ret@h:1/0", "redis://…"),
        ("redis://:1?secret@h/0", "redis://…"),
        ("redis://:secret", "redis://…"),
        ("redis://h/secret", "redis://…"),
        ("redis://h:1/0\n?password=secret", "redis://…"),
        ("redis:/:secret@h", "…"),
        ("me:secret@h:1", "…"),
        ("mysql://me:secret@h/db?password=secret", "mysql://h/db"),
        ("sqlite:////data/my@file?.db", "sqlite:////data/my@file?.db"),
        ("my.db", "my.db"),
    ],
)
def test_what_may_be_shown_of_a_url(url, shown):
    """A password may stand between the slashes and the @, in the query, or nowhere sensible."""
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url", ["redis:/:secret@h/0", "me:secret@h:1/0", "redis://h:1/0?secret", "redis://\u2100secret/0"]
)
def test_a_misspelt_url_is_not_echoed(url, tmp_path):
    with pytest.raises(UserError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value) and caught.value.__suppress_context__ | (caught.value.__context__ is None)


def test_which_database_is_meant(monkeypatch, tmp_path):
    """The option goes before the variable, the variable before the data folder."""
    monkeypatch.delenv("SDPO_HOME", raising=False)
    monkeypatch.delenv("SOTOPIA_DB", raising=False)
    assert data_home() == Path(__file__).resolve().parents[3] / "dpo" / "data"
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    assert database_url() == f"sqlite:///{tmp_path}/sotopia.db"
    assert database_url(data_dir="/elsewhere") == "sqlite:////elsewhere/sotopia.db"
    monkeypatch.setenv("SOTOPIA_DB", "redis://h:1/0")
    assert database_url() == "redis://h:1/0"
    assert database_url("sqlite:///x.db") == "sqlite:///x.db"


def test_a_path_is_relative_to_where_one_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///x.db") as store:
        store.put_episode(make_episode())
        assert store.url == f"sqlite:///{tmp_path}/x.db"
    with open_store(f"sqlite:///{tmp_path}/x.db", create=False) as store:
        assert [head.key.tag for head in store.heads()] == [TAG]
