"""Files of records: every way of writing them is read, and no broken one is read in part."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamafactory_sdpo.data import records
from llamafactory_sdpo.data.records import read_records
from llamafactory_sdpo.errors import UserError


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@settings(deadline=None, max_examples=150)
@given(
    values=json_objects,
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
    lines=st.booleans(),
    bom=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_every_spelling_is_read(folder, values, indent, ascii, lines, bom, chunk):
    """A list or JSON Lines, indented or not, escaped or not, with a byte order mark or not, in chunks of any size."""
    if lines:
        text = "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii) for value in values)
    else:
        text = json.dumps(values, indent=indent, ensure_ascii=ascii)
    path = folder / "any.json"
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    before, records.CHUNK_BYTES = records.CHUNK_BYTES, chunk
    try:
        if lines and not values:
            with pytest.raises(UserError, match="is empty"):
                list(read_records(path))
        else:
            assert list(read_records(path)) == list(enumerate(values))
    finally:
        records.CHUNK_BYTES = before


def test_a_list_cut_off_anywhere_is_refused(folder):
    """No prefix of a file is taken for the file: a lost tail would otherwise be lost data."""
    whole = json.dumps([{"a": "x,]}"}, {"b": [1, 2]}], indent=1).encode()
    path = folder / "cut.json"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut.json"):
            list(read_records(path))
    path.write_bytes(whole)
    assert len(list(read_records(path))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'[{"a": 1}, {"b": }]', "record 1 is not JSON"),
        (b'[{"a": 1} {"b": 2}]', "after record 0: expected ',' or ']', found '{'"),
        (b'[{"a": 1}', "found the end of the file"),
        (b'[{"a": 1}] [', "goes on after its list"),
        (b'[{"a": "\xe9"}]', "not UTF-8 .near byte 8"),
        ('[{"a": "ü"}]'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"conversations: none", "record 0 is not JSON"),
        (b'[{"goal": ' + b"9" * 5000 + b"}]", "record 0 has a number of more than 4,300 digits; shorten it"),
        (b'{"a": 1}\n{"goal": -' + b"9" * 5000 + b"}", "record 1 has a number of more than 4,300 digits"),
        (b'{"a": 1}\n{"goal": ' + b"[" * 5000, "record 1 is nested too deeply"),
    ],
)
def test_broken_files_are_named(folder, content, message):
    path = folder / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_records(path))
    assert "broken.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("chunk", [64, 1 << 20])
def test_a_record_over_the_limit_is_said_to_be_so(folder, monkeypatch, chunk):
    """It was called broken JSON; a record that is broken is still called so, and before more is read."""
    monkeypatch.setattr(records, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    path = folder / "big.json"
    for value in ({"text": "x" * 2000}, {"list": [1] * 2000}):
        path.write_text(json.dumps([{"a": 1}, value]), encoding="utf-8")
        if chunk < 1000:
            with pytest.raises(UserError, match="big.json record 1 is longer than 1,000 characters, the limit"):
                list(read_records(path))
        else:
            assert [number for number, _ in read_records(path)] == [0, 1]
    path.write_text('[{"a": 1}, {"b": oops, "c": "' + "x" * 5000 + '"}]', encoding="utf-8")
    with pytest.raises(UserError, match="record 1 is not JSON .Expecting value, found 'oops, "):
        list(read_records(path))


def test_a_long_record_is_decoded_a_few_times(folder, monkeypatch):
    """As much text as there is comes at a time, so what is decoded in vain adds up to the record's own length."""
    monkeypatch.setattr(records, "CHUNK_BYTES", 100)
    seen = []

    class Decoder(json.JSONDecoder):
        def raw_decode(self, text, at):
            seen.append(len(text) - at)
            return super().raw_decode(text, at)

    monkeypatch.setattr(records, "_DECODER", Decoder())
    path = folder / "long.jsonl"
    value = {"text": "x" * 100_000}
    path.write_text(json.dumps(value), encoding="utf-8")
    assert list(read_records(path)) == [(0, value)]
    assert sum(seen) < 4 * 100_000


@pytest.mark.parametrize("name", ["pairs.json.gz", "pairs.jsonl.gz"])
def test_gzipped_files(folder, name):
    path, text = folder / name, "\n".join(json.dumps({"n": number, "t": "é" * 99}) for number in range(50))
    path.write_bytes(gzip.compress(text.encode()))
    assert [value["n"] for _, value in read_records(path)] == list(range(50))
    whole = path.read_bytes()
    broken = bytes(byte ^ 255 for byte in whole[40:80])
    for content in (whole[:-12], text.encode(), whole[:40] + broken + whole[80:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.* cannot be read ") as error:
            list(read_records(path))
        assert "\n" not in str(error.value)


def test_missing_file(folder):
    with pytest.raises(UserError, match="none.json is not a file"):
        list(read_records(folder / "none.json"))


def test_records_come_before_the_file_is_read_to_its_end(folder, monkeypatch):
    """Memory is flat in the size of the file: a broken end does not stop the records before it."""
    monkeypatch.setattr(records, "CHUNK_BYTES", 64)
    path = folder / "long.json"
    path.write_text("[" + ", ".join('{"n": 1}' for _ in range(100)) + ", oops", encoding="utf-8")
    read = read_records(path)
    assert [next(read) for _ in range(100)][-1] == (99, {"n": 1})
    with pytest.raises(UserError, match="record 100"):
        next(read)
