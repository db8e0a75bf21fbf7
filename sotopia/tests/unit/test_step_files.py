"""Files between the steps: read or refused by name, written whole or not at all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.step_files import LOCATED, read_list, write_json


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(deadline=None)
@given(rows=st.lists(JSON, min_size=1, max_size=4))
def test_what_is_written_is_read(folder: Path, rows: list[Any]) -> None:
    write_json([(folder / "new" / "a.json", rows)])
    assert read_list(folder / "new" / "a.json", "w.py") == rows
    assert [path.name for path in (folder / "new").iterdir()] == ["a.json"]


def test_text_is_readable_in_the_file(tmp_path: Path) -> None:
    write_json([(tmp_path / "a.json", [{"é": "中"}])])
    assert (tmp_path / "a.json").read_text("utf-8") == '[\n {\n  "é": "中"\n }\n]\n'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "{path} is not there; locate.py writes it"),
        (b"[]", "{path}: expected a list of records, found none; rerun locate.py"),
        (b"{}", "{path}: expected a list of records, found a dict; rerun locate.py"),
        (b"[1", "{path}: cannot be read as JSON (Expecting ',' delimiter: line 1 column 3 (char 2)); rerun locate.py"),
        (b"", "{path}: cannot be read as JSON (Expecting value: line 1 column 1 (char 0)); rerun locate.py"),
        (b'["\xff"]', "{path}: cannot be read as JSON ('utf-8' codec can't decode byte 0xff in position 2: invalid start byte); rerun locate.py"),
        (b"[" * 200_000, "{path}: cannot be read as JSON (maximum recursion depth exceeded"),
        (b"[" + b"1" * 5000 + b"]", "{path}: cannot be read as JSON (Exceeds the limit (4300 digits)"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / LOCATED.name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(fault.format(path=path))) as caught:
        read_list(path, LOCATED.writer)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 300


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read as JSON \(.*Is a directory"):
        read_list(tmp_path, "w.py")


def test_half_a_surrogate_pair_can_be_written_on(tmp_path: Path) -> None:
    """JSON allows it, UTF-8 does not."""
    (tmp_path / "a.json").write_text(json.dumps([{"x\ud83d": ["\ud83d\ude00", "a\ud83db"]}]))
    rows = read_list(tmp_path / "a.json", "w.py")
    assert rows == [{"x\ufffd": ["😀", "a\ufffdb"]}]
    write_json([(tmp_path / "b.json", rows)])
    assert read_list(tmp_path / "b.json", "w.py") == rows


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ("a.json", "a.json: both outputs name the same file; give another one (--output)"),
        ("link/../a.json", "a.json: both outputs name the same file; give another one (--output)"),
        ("link", "link: cannot be written (Is a directory); give another place (--output)"),
        ("file/b.json", "file/b.json: cannot be written (File exists); give another place (--output)"),
    ],
)
def test_what_cannot_be_written_leaves_all_files_as_they_were(tmp_path: Path, second: str, fault: str) -> None:
    write_json([(tmp_path / "a.json", ["old"]), (tmp_path / "file", ["x"])])
    (tmp_path / "link").mkdir()
    with pytest.raises(UserError, match=re.escape(fault)):
        write_json([(tmp_path / "a.json", ["new"]), (tmp_path / second, ["new"])])
    assert read_list(tmp_path / "a.json", "w.py") == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "file", "link"]


def test_a_row_that_is_no_json_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_json([(tmp_path / "a.json", ["old"])])
    with pytest.raises(TypeError):
        write_json([(tmp_path / "a.json", ["new"]), (tmp_path / "b.json", [{1, 2}])])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_list(tmp_path / "a.json", "w.py") == ["old"]
