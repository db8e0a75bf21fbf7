"""The packages behind the checksum and the compression, against plain forms of both written for the tests."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import rdb_writer as w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sotopia_sdpo.rdb.codecs import load_codecs
from sotopia_sdpo.rdb.source import MOST_DOCUMENT_BYTES, RdbError, RdbSource


CODECS = load_codecs(Path("test.rdb"))
texts = st.lists(st.sampled_from([b"abc", b"a", b"abcabcabd", b"\x00", b"xyzxyz"]), min_size=1, max_size=60).map(
    b"".join
)
quick = settings(max_examples=300, deadline=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codecs") / "dump.rdb"


def read_string(path: Path, data: bytes) -> bytes:
    """Read a file that holds one string of a snapshot."""
    path.write_bytes(data)
    with RdbSource(path) as source:
        return source.string()


def slow_unpack_lzf(packed: bytes, length: int) -> bytes:
    """Unpack LZF.

    Args:
        packed: runs of literal bytes, and references to what was unpacked before.
        length: how many bytes come out.

    Raises:
        ValueError, IndexError: if the bytes are not LZF of this length.
    """
    out = bytearray()
    place, end = 0, len(packed)
    while place < end:
        control = packed[place]
        place += 1
        if control < 32:
            out += packed[place : place + control + 1]
            place += control + 1
            continue
        count = (control >> 5) + 2
        if count == 9:
            count += packed[place]
            place += 1
        back = ((control & 31) << 8 | packed[place]) + 1
        place += 1
        start = len(out) - back
        if start < 0:
            raise ValueError(f"a reference goes {-start} bytes before its beginning")
        # A reference may reach into what it makes itself: then its text repeats.
        out += out[start : start + count] if count <= back else (out[start:] * (count // back + 1))[:count]
    if len(out) != length or place != end:
        raise ValueError(f"{len(out)} bytes come out where {length} are announced")
    return bytes(out)


def test_crc64_of_the_check_string() -> None:
    """The published check value of CRC-64/Jones for "123456789"."""
    assert CODECS.crc64(b"123456789", 0) == w.slow_crc64(b"123456789") == 0xE9C6D914C4B8D9CA


@quick
@given(st.binary(max_size=300), st.integers(0, 300))
def test_crc64_equals_the_bitwise_form_in_pieces_and_at_once(data: bytes, cut: int) -> None:
    first = CODECS.crc64(memoryview(data)[:cut], 0)
    assert CODECS.crc64(data[cut:], first) == CODECS.crc64(data, 0) == w.slow_crc64(data)


def test_crc64_of_a_megabyte_in_pieces() -> None:
    data = random.Random(1).randbytes(1 << 20)
    assert CODECS.crc64(data[70_001:], CODECS.crc64(data[:70_001], 0)) == CODECS.crc64(data, 0)


@quick
@given(texts)
def test_lzf_round_trip(path: Path, data: bytes) -> None:
    assert read_string(path, w.lzf_string(data)) == data


def test_lzf_of_a_run_refers_into_itself(path: Path) -> None:
    """One literal, then a reference one byte back of 2 + 7 + 90 = 99 bytes: 100 in all."""
    packed = bytes([0, ord("a"), 0xE0, 90, 0])
    assert slow_unpack_lzf(packed, 100) == read_string(path, lzf_of(packed, 100)) == b"a" * 100


def lzf_of(packed: bytes, length: int) -> bytes:
    """Write packed bytes as a compressed string that announces a length."""
    return b"\xc3" + w.length(len(packed)) + w.length(length) + packed


@st.composite
def broken(draw: st.DrawFn) -> tuple[bytes, int]:
    """Draw packed bytes with up to three of them changed, cut or made longer, and a length near the right one."""
    text = draw(texts)
    packed = bytearray(w.pack_lzf(text))
    for _ in range(draw(st.integers(0, 3))):
        packed[draw(st.integers(0, len(packed) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(1, len(packed)) | st.just(len(packed)))
    return bytes(packed[:end]) + draw(st.just(b"") | st.binary(max_size=4)), len(text) + draw(st.integers(-2, 2))


@settings(max_examples=500, deadline=None)
@given(broken() | st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 400)))
@example((b"\x20\x05", 3))
@example((b"\x05ab", 3))
@example((b"\xe0", 3))
@example((b"\x20", 3))
@example((b"\x00a", 2))
@example((b"\x01ab", 1))
def test_lzf_is_unpacked_or_refused_as_in_the_plain_form(path: Path, case: tuple[bytes, int]) -> None:
    packed, length = case
    try:
        expected = slow_unpack_lzf(packed, length)
    except (ValueError, IndexError):
        with pytest.raises(
            RdbError, match=r"dump\.rdb byte 0: .*; the file is corrupt; nothing was imported from it$"
        ):
            read_string(path, lzf_of(packed, max(length, 0)))
    else:
        assert read_string(path, lzf_of(packed, length)) == expected


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the package fail in a way that it has not told."""
    monkeypatch.setattr("lzf.decompress", lambda *_: 1 / 0)
    yield


@pytest.mark.usefixtures("failing")
def test_whatever_the_package_raises_is_one_line(path: Path) -> None:
    with pytest.raises(RdbError, match="does not unpack to 100 bytes; the file is corrupt"):
        read_string(path, w.lzf_string(b"a" * 100))


def test_no_memory_is_asked_for_what_is_only_announced(path: Path) -> None:
    length = MOST_DOCUMENT_BYTES + 1
    with pytest.raises(RdbError, match="more than 8 MiB"):
        read_string(path, lzf_of(bytes(length // 80), length))
