"""Files of records: every way of writing them is read, and no broken one is read in part."""

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
    ],
)
def test_broken_files_are_named(folder, content, message):
    path = folder / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_records(path))
    assert "broken.json" in str(error.value)
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
