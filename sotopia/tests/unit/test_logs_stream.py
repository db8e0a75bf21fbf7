"""JSON read value by value: the same as the standard library reads at once, in chunks of any size."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.logs import stream


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.sampled_from('ab"\\é😀\n{}[],:0 ')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
INDENTS = st.sampled_from([None, 1])
CHUNKS = st.integers(1, 9)


@pytest.fixture(scope="module")
def path(tmp_path_factory: Any) -> Path:
    return tmp_path_factory.mktemp("stream") / "log.json"


@given(st.lists(VALUES, max_size=5), INDENTS, CHUNKS, st.booleans(), st.booleans())
def test_a_list_and_lines(
    path: Path, rows: list[Any], indent: int | None, chunk: int, ascii_only: bool, lines: bool
) -> None:
    rows = [{"row": row} for row in rows] if lines else rows
    texts = [json.dumps(row, indent=indent, ensure_ascii=ascii_only) for row in rows]
    path.write_text("\n".join(texts) if lines else f" [{' , '.join(texts)} ]\n", "utf-8")
    with patch.object(stream, "CHUNK_BYTES", chunk):
        if lines and not rows:
            with pytest.raises(UserError, match="the file is empty"):
                list(stream.records(path))
        else:
            assert list(stream.records(path)) == rows


@given(st.dictionaries(st.sampled_from(["big", "x", "y"]), VALUES), st.lists(VALUES), INDENTS, CHUNKS)
def test_an_object_whose_list_is_streamed(
    path: Path, fields: dict[str, Any], big: list[Any], indent: int | None, chunk: int
) -> None:
    whole = {**fields, "big": big}
    path.write_text("\ufeff" + json.dumps(whole, indent=indent, ensure_ascii=False), "utf-8")
    expected = [(name, item) for name, value in whole.items() for item in (value if name == "big" else [value])]
    with patch.object(stream, "CHUNK_BYTES", chunk):
        assert list(stream.members(path, "big")) == expected


@pytest.mark.parametrize(
    "text, fault",
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("[1, 2", "record 2: expected ',' or ']', the file ends there"),
        ("[1 2]", "record 1: expected ',' or ']', found '2]'"),
        ("[1,]", "record 1: not JSON (Expecting value), found ']'"),
        ('{"a": 1}\n{"a": 2', "record 1: not JSON (Expecting ',' delimiter), the file ends there"),
        ('{"a": 1}\nreward: 1', "record 1: not JSON (Expecting value), found 'reward: 1'"),
        ('["open', "record 0: not JSON (Unterminated string starting at), found '\"open'"),
        (f"[{'[' * 100_000}", "record 0: nested too deeply"),
        (f"[1, {'[' * 800}{']' * 800}]", "record 1: nested too deeply, found '[[["),
        (f"[{'9' * 5000}]", "record 0: Exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_what_is_not_json(path: Path, text: str, fault: str) -> None:
    path.write_text(text, "utf-8")
    with pytest.raises(UserError) as found:
        list(stream.records(path))
    assert str(path) in str(found.value) and fault in str(found.value)


def test_files_that_cannot_be_read(path: Path) -> None:
    path.write_bytes("[1]".encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8"):
        list(stream.records(path))
    with pytest.raises(UserError, match="cannot be read"):
        list(stream.records(path.parent))
    path.write_text('{"a": 1} {"a": 2}')
    with pytest.raises(UserError, match="one object is expected, and it goes on"):
        list(stream.members(path, "big"))


def test_an_early_fault_is_found_without_reading_on(path: Path) -> None:
    path.write_text('{"a": x}' + " " * 10_000 + '"')
    with patch.object(stream, "CHUNK_BYTES", 100), pytest.raises(UserError), path.open("rb") as file:
        try:
            stream.Text(path, file).value()
        finally:
            assert file.tell() == 100


def test_half_a_surrogate_pair_is_replaced(path: Path) -> None:
    path.write_text('["\\ud83d"]')
    assert list(stream.records(path)) == ["\ufffd"]
