"""The reader of Redis snapshots, against a writer of our own, real snapshots, and files that are broken on purpose.

Not covered: snapshots of Valkey, whose version numbers begin at 80 and are refused as too new.
"""

import json
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import rdb_writer as w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.rdb.codecs import load_codecs
from sotopia_sdpo.rdb.snapshot import RdbError, module_name, read_rdb
from sotopia_sdpo.rdb.source import CHUNK_BYTES, MOST_DOCUMENT_BYTES


SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "rdb"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here: real snapshots are missing")
KEY = ":sotopia.database.logs.EpisodeLog:01A"
DOCUMENT = {"pk": "01A", "n": 1, "text": "abcabcabcabcabcabc", "ü": [None, True, 2.5]}
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def read(tmp_path):
    """Read bytes as a snapshot."""

    def read_bytes(data):
        path = tmp_path / "dump.rdb"
        path.write_bytes(data)
        return list(read_rdb(path))

    return read_bytes


@pytest.mark.parametrize("package", ["anycrc", "lzf"])
def test_a_missing_package_is_one_line(read, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    line = rf"dump\.rdb: a Redis snapshot needs the package {package}; pip install 'sotopia-sdpo\[rdb\]'$"
    with pytest.raises(UserError, match=line):
        read(w.snapshot())


@quick
@given(document=documents)
def test_documents_in_each_form(read, document):
    """JSON text raw and compressed, and the old tree with either mark of an integer, give the same document."""
    texts = [w.json_text(document), w.json_text(document, w.lzf_string)]
    forms = texts + [w.json_tree(document, mark) for mark in (b"\x01", b"\x02")]
    entries = read(w.snapshot(*(w.entry(f":a.B:{number}", form) for number, form in enumerate(forms))))
    assert [entry.key for entry in entries] == [":a.B:0", ":a.B:1", ":a.B:2", ":a.B:3"]
    for entry in entries:
        assert json.dumps(entry.document) == json.dumps(document)


@quick
@given(
    st.lists(st.tuples(st.sampled_from([6, 14, 32, 64]), st.text("abc", max_size=40)), max_size=5),
    st.booleans(),
    st.integers(1, 12),
)
def test_every_form_of_length_and_key(read, keys, checksum, version):
    """A key may be written with any length, as an integer, or compressed."""
    records = [w.entry(key, w.json_text(1), write=lambda text, form=form: w.string(text, form)) for form, key in keys]
    records += [w.entry(number, w.json_text(2), write=w.integer_string) for number in (-5, 300, -70000)]
    records.append(w.entry("k" * 50, w.json_text(3), write=w.lzf_string))
    entries = read(w.snapshot(*records, version=version, checksum=checksum))
    assert [entry.key for entry in entries] == [key for _, key in keys] + ["-5", "300", "-70000", "k" * 50]


def other_values():
    """One value of each type that is stepped over, and the records that are none."""
    s, n = w.string, w.length
    score, moment, stream_id = bytes(8), bytes(8), bytes(16)
    pending = n(1) + stream_id + moment + n(3)
    for kind in (0, 9, 10, 11, 12, 13, 16, 17, 20):
        yield w.entry("k", w.lzf_string(b"x" * 99), kind)
    yield w.entry("k", w.integer_string(1234), 0)
    yield w.entry("k", n(2) + s("a") + s("b"), 1)
    yield w.entry("k", n(2) + s("a") + w.integer_string(7), 2)
    yield w.entry("k", n(3) + s("a") + b"\x03" + b"1.5" + s("b") + b"\xfe" + s("c") + b"\xff", 3)
    yield w.entry("k", n(1) + s("f") + s("v"), 4)
    yield w.entry("k", n(2) + s("a") + score + s("b") + score, 5)
    yield w.entry("k", n(2) + s("zl") + s("zl"), 14)
    yield w.entry("k", n(2) + n(1) + s("plain") + n(2) + s("packed"), 18)
    yield w.entry("k", moment + n(1) + n(5) + s("f") + s("v"), 24)
    yield w.entry("k", moment + s("packed"), 25)
    for kind, more, group, consumer in ((15, b"", b"", b""), (19, n(0) * 5, n(9), b""), (21, n(0) * 5, n(9), moment)):
        head = n(1) + s("id") + s("listpack") + n(2) + n(1 << 40) + n(0) + more
        consumers = n(1) + s("c") + moment + consumer + n(1) + stream_id
        yield w.entry("k", head + n(1) + s("group") + n(7) + n(8) + group + pending + consumers, kind)
    marks = b"\x01" + n(5) + b"\x02" + n(6) + b"\x03" + bytes(4) + b"\x04" + bytes(8) + b"\x05" + s("x") + b"\x00"
    yield w.entry("k", w.module_id("graphdata", 9) + marks)
    yield b"\xf7" + w.module_id("ft_index0", 19) + b"\x02" + n(2) + marks
    yield b"\xfa" + s("redis-ver") + s("7.4.0") + b"\xfa" + s("ctime") + w.integer_string(1_700_000_000)
    yield b"\xf5" + s("#!lua name=f\n") + b"\xf4" + n(1) + n(2) + n(3) + b"\xfb" + n(5) + n(1)


@pytest.mark.parametrize("number", range(len(list(other_values()))))
def test_what_is_no_document_is_stepped_over(read, number):
    other = list(other_values())[number]
    entries = read(w.snapshot(other, w.entry(KEY, w.json_text(DOCUMENT)), other, version=12))
    assert [(entry.key, entry.document) for entry in entries] == [(KEY, DOCUMENT)]


def test_expiry_idle_freq_and_database(read):
    """An expiry counts for the next key alone, a database for all that follow."""
    entries = read(
        w.snapshot(
            w.entry("a", w.json_text(1), before=b"\xfc" + (1_700_000_000_123).to_bytes(8, "little")),
            b"\xfe" + w.length(3),
            w.entry(
                "b", w.json_text(2), before=b"\xfd" + (1_700_000_000).to_bytes(4, "little") + b"\xf8" + w.length(9)
            ),
            w.entry("c", w.json_text(3), before=b"\xf9\x05"),
        )
    )
    assert [(e.key, e.database, e.expires_ms) for e in entries] == [
        ("a", 0, 1_700_000_000_123),
        ("b", 3, 1_700_000_000_000),
        ("c", 3, None),
    ]


def small_file():
    """A file that has a bit of everything in some 300 bytes."""
    return w.snapshot(
        b"\xfa" + w.string("redis-ver") + w.string("6.2.14") + b"\xfe\x00\xfb\x03\x01",
        w.entry(KEY, w.json_text(DOCUMENT, w.lzf_string)),
        w.entry("k", w.length(1) + w.string("f") + w.string("v"), 4),
        w.entry("old", w.json_tree({"a": [1, "x", None]}), before=b"\xfc" + bytes(8)),
    )


def test_truncated_at_every_byte(read):
    data = small_file()
    assert len(read(data)) == 2
    for end in range(len(data)):
        with pytest.raises(RdbError, match=r"dump\.rdb byte \d+: ") as caught:
            read(data[:end])
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_any_byte_is_found(read):
    """Whatever a flip does to the structure, the checksum tells in the end."""
    data = small_file()
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        with pytest.raises(RdbError, match=r"dump\.rdb byte \d+: "):
            read(bytes(broken))


@quick
@given(st.binary(max_size=200))
def test_noise_never_does_anything_but_be_refused(read, noise):
    with pytest.raises(RdbError):
        read(b"REDIS0009" + noise)


def test_a_flip_without_a_checksum_is_not_seen(read):
    """The price of `rdbchecksum no`, so that nobody thinks otherwise."""
    data = w.snapshot(w.entry("k", w.json_text("aaaa")), checksum=False)
    assert read(data.replace(b"aaaa", b"aaba"))[0].document == "aaba"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not the beginning of a Redis snapshot"),
        (b"REDIS00x9", "is not the beginning of a Redis snapshot"),
        (b"SQLite format 3", "is not the beginning of a Redis snapshot"),
        (w.snapshot(version=99), "byte 5: RDB version 99 is too new, up to 15 can be read"),
        (w.snapshot(version=0), "RDB version 0"),
        (w.snapshot(b"\xf3\x00"), "byte 9: record 243 is not known"),
        (w.snapshot(w.entry("k", b"", 6)), "byte 9: value type 6 is not known"),
        (w.snapshot(w.entry("k", b"", 99)), "byte 9: value type 99 is not known"),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 4) + b"\x00")), "ReJSON-RL version 4 "),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 2) + b"\x00")), "ReJSON-RL version 2 is not known"),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 3) + b"\x05\x02{]\x00")), "does not parse"),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 3) + b'\x05\x03"\xff"\x00')), "does not parse"),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 3) + b"\x02\x03\x00")), "has no text"),
        (w.snapshot(w.entry("k", w.module_id("ReJSON-RL", 0) + w.unsigned(3))), "JSON node 3 is not known"),
        (w.snapshot(w.entry("k", w.module_id("graphdata", 1) + b"\x09")), "mark 9"),
        (w.snapshot(w.entry("k", b"\xc4\x00", 0)), "special string 4 is not known"),
        (w.snapshot(w.entry("k", b"\xc3\x01\x81" + b"\xff" * 8, 0)), "cannot hold"),
        (w.snapshot(w.entry("k", b"\x81" + b"\xff" * 8, 0)), "18446744073709551615 more bytes expected"),
        (w.snapshot(w.entry("k", b"\x85", 0)), "0x85 begins no length"),
        (w.snapshot(w.entry(b"\xff", w.json_text(1))), "is not UTF-8"),
        (w.snapshot(b"\xfb\xc0\x00\x00"), "expected a length"),
        (w.snapshot() + b"x", "byte 18: 1 bytes follow the end"),
        (w.snapshot(b"\xfe\x00")[:-1] + b"\x00", "byte 12: the checksum is"),
    ],
)
def test_one_line_says_what_is_wrong(read, data, message):
    with pytest.raises(RdbError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nested", [b"[" * 100_000, None])
def test_bottomless_documents_are_refused(read, nested):
    tree = w.module_id("ReJSON-RL", 0) + (w.unsigned(0x40) + w.unsigned(1)) * 1000
    text = w.module_id("ReJSON-RL", 3) + b"\x05" + w.string(nested or b"")
    with pytest.raises(RdbError, match="nested deeper"):
        read(w.snapshot(w.entry("k", text if nested else tree)))


def many_strings(count):
    """A tree of an array of so many strings of 1 MiB, each compressed to about 12 kB."""
    packed = b"\x00a" + b"\xe0\xff\x00" * ((1 << 20) // 264)
    string = b"\xc3" + w.length(len(packed)) + w.length(1 + (1 << 20) // 264 * 264) + packed
    array = w.unsigned(0x40) + w.unsigned(count) + (w.unsigned(2) + b"\x05" + string) * count
    return w.module_id("ReJSON-RL", 0) + array + b"\x00"


@pytest.mark.parametrize(
    "value",
    [
        w.json_text("x" * MOST_DOCUMENT_BYTES),
        w.module_id("ReJSON-RL", 3) + b"\x05" + w.length(1 << 60, 64),
        many_strings(9),
        w.module_id("ReJSON-RL", 0) + w.unsigned(0x40) + w.unsigned(1 << 21) + w.unsigned(1) * (1 << 20),
    ],
    ids=["text", "announced", "compressed", "nodes"],
)
def test_a_document_that_is_too_large_is_refused(tmp_path, value):
    """Whether it is large in the file, only said to be, large once unpacked, or made of many small parts."""
    path = tmp_path / "large.rdb"
    path.write_bytes(b"REDIS0009" + w.entry("k", value))
    with pytest.raises(RdbError, match=r"large\.rdb byte \d+: a JSON document of more than 8 MiB; delete its key"):
        list(read_rdb(path))


def test_several_documents_may_be_larger_together(tmp_path):
    """The limit is one document's: 4 of 3 MiB each are read."""
    path = tmp_path / "dump.rdb"
    path.write_bytes(b"REDIS0009" + w.entry("k", many_strings(3)) * 4 + b"\xff" + bytes(8))
    assert [len(entry.document) for entry in read_rdb(path)] == [3] * 4


def test_a_small_file_that_unpacks_to_a_large_document_is_refused(tmp_path):
    """0.3 MB: a literal "[[],", 100,000 references three bytes back of 264 each, and "0]", so 26 MB of empty lists."""
    packed = b"\x03[[]," + b"\xe0\xff\x02" * 100_000 + b"\x010]"
    text = b"\xc3" + w.length(len(packed)) + w.length(4 + 264 * 100_000 + 2) + packed
    path = tmp_path / "small.rdb"
    path.write_bytes(b"REDIS0009" + w.entry("k", w.module_id("ReJSON-RL", 3) + b"\x05" + text + b"\x00"))
    tracemalloc.start()
    with pytest.raises(RdbError, match=r"small\.rdb byte 22: a JSON document of more than 8 MiB") as caught:
        list(read_rdb(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_DOCUMENT_BYTES
    assert str(caught.value).startswith(str(path))


def test_module_name():
    """Nine characters of six bits over ten bits of version."""
    assert module_name(int.from_bytes(w.module_id("ReJSON-RL", 3)[1:], "big")) == ("ReJSON-RL", 3)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """A 24 MiB file of a large value and many documents is read within a few chunks of memory."""
    path = tmp_path / "large.rdb"
    large = w.entry("k", w.string(bytes(12 << 20)), 0)
    small = w.entry(KEY, w.json_text({"text": "x" * 10_000}))
    body = b"REDIS0009" + large + small * 1200 + b"\xff"
    path.write_bytes(body + load_codecs(path).crc64(body, 0).to_bytes(8, "little"))
    del body, large
    tracemalloc.start()
    count = sum(1 for _ in read_rdb(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1200
    assert peak < 12 * CHUNK_BYTES


@needs_shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "sotopia_pi.rdb",
            {"EnvAgentComboStorage": 2510, "EnvironmentProfile": 386, "RelationshipProfile": 120, "AgentProfile": 40},
        ),
        ("redis_stack_7_4.rdb", {"EnvironmentProfile": 32, "AgentProfile": 6}),
    ],
)
def test_real_snapshots(name, expected):
    entries = list(read_rdb(SHARED / name))
    assert Counter(entry.key.split(":")[1].split(".")[-1] for entry in entries) == expected
    assert all(entry.document["pk"] == entry.key.split(":")[2] for entry in entries)


@needs_shared
def test_a_real_snapshot_of_the_oldest_redisjson():
    """RedisJSON 1.0.8 writes trees, and before an integer the mark of an unsigned number."""
    documents = {entry.key: entry.document for entry in read_rdb(SHARED / "redisjson_encver0.rdb")}
    assert len(documents) == 12
    assert documents["escaped2"] == {'a"a': 1, "b'b": 2}
    assert documents["nonascii2"] == {"愛": [1, 2, 3]}
    wikipedia = documents["wikipedia"]
    assert (wikipedia["age"], wikipedia["weight"], wikipedia["isAlive"], wikipedia["spouse"]) == (
        27,
        135.17,
        True,
        None,
    )
    assert [book["price"] for book in documents["store"]["store"]["books"]] == [
        8.95,
        12.99,
        9,
        22.99,
        6.99,
        22.99,
        10.69,
        8.59,
    ]
