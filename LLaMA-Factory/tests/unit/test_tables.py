"""Pairs in tables: Parquet, Arrow and CSV are read as JSON is, row by row, and from no cache."""

import gzip
import json
import os

import pandas
import pyarrow
import pytest
from dialogues import pair, ranking
from pyarrow import ipc, parquet
from test_dataset import COLUMNS, load, numbered, numbers

from llamafactory_sdpo.data.tables import turns
from llamafactory_sdpo.errors import UserError


def write_table(rows, path):
    """Write records in the kind of file that the name asks for."""
    table = pyarrow.Table.from_pylist(rows)
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        # Both kinds that exist; `datasets` itself writes streams.
        new = ipc.new_stream if "stream" in path.name else ipc.new_file
        with pyarrow.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix in (".csv", ".gz"):
        cells = [{key: cell(value, path) for key, value in row.items()} for row in rows]
        pandas.DataFrame(cells).to_csv(path, index=False)


def cell(value, path):
    """A list as JSON, or as pandas writes it by itself."""
    return value if "repr" in path.name or isinstance(value, str) else json.dumps(value)


KINDS = ["a.parquet", "stream.arrow", "file.arrow", "json.csv", "repr.csv", "json.csv.gz"]


@pytest.mark.parametrize("name", KINDS)
def test_a_table_gives_the_rows_of_the_json_file(write, tmp_path, name):
    """Both forms; a `segment`, an empty history, a turn as an object and a text that looks like a list included."""
    rows = [row for n in range(3) for row in pair(["u[1]", "a"], [f"u{n}", f"worse {n}"], ["v", f"better {n}"])]
    for row in rows[:2]:
        row["segment"] = [3, 4]
    rows += numbered(2, start=3)
    ranked = [ranking(["u"], ["worse 1"], ["better 1"]), ranking([], ["u", "worse 2"], ["u", "better 2"])]
    one_turn = [{**ranked[0], "chosen": ranked[0]["chosen"][0], "rejected": ranked[0]["rejected"][0]}]
    for number, (records, entry) in enumerate(
        (
            (rows, {}),
            (ranked, {"ranking": True, "columns": COLUMNS}),
            (one_turn, {"ranking": True, "columns": COLUMNS}),
        )
    ):
        stage = "eto" if number == 0 else "sdpo"
        write(records, f"{number}.json", **entry)
        expected = load(tmp_path, stage=stage)["train_dataset"]
        write_table(records, tmp_path / f"{number}{name}")
        write([], "unused.json", **{**entry, "file_name": f"{number}{name}"})
        found = load(tmp_path, stage=stage)["train_dataset"]
        assert len(found) == len(records) // (1 if entry else 2)
        for column in set(expected.column_names) - {"origin"}:
            assert list(found[column]) == list(expected[column]), column
        assert [origin.replace(name, ".json") for origin in found["origin"]] == list(expected["origin"])


def test_a_folder_of_tables_by_file_name(write, tmp_path):
    write_table(numbered(2), tmp_path / "many" / "a.parquet")
    write(numbered(1, start=2), "many/b.json", file_name="many")
    write_table(numbered(2, start=3), tmp_path / "many" / "c.csv")
    (tmp_path / "many" / "d.json.gz").write_bytes(gzip.compress(json.dumps(numbered(1, start=5)).encode()))
    rows = load(tmp_path)["train_dataset"]
    assert numbers(rows) == [0, 1, 2, 3, 4, 5]
    assert rows["origin"][4].endswith("c.csv records 2 and 3")


def test_a_changed_table_is_read_again(write, tmp_path):
    """Same name, same size, same time: `datasets` would take it from its cache."""
    path = tmp_path / "a.parquet"
    write_table(numbered(2), path)
    write([], "unused.json", file_name="a.parquet")
    stamp = path.stat()
    assert numbers(load(tmp_path)["train_dataset"]) == [0, 1]
    write_table(numbered(2, start=7), path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert numbers(load(tmp_path)["train_dataset"]) == [7, 8]


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "json.csv.gz"])
def test_broken_tables_are_named(write, tmp_path, name):
    write_table(numbered(20), tmp_path / name)
    path = tmp_path / name
    write([], "unused.json", file_name=name)
    whole = path.read_bytes()
    for content in (whole[:-30], b"", b"nothing of this kind"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*(cannot be read|holds no records|no partner)") as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


def test_a_wrong_cell_is_a_bad_pair_with_its_record(write, tmp_path):
    rows = [{"conversations": cell(row["conversations"], tmp_path)} for row in numbered(2)]
    rows[2]["conversations"] = "[{'from': human"
    pandas.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    write([], "unused.json", file_name="a.csv")
    with pytest.raises(
        UserError, match="a.csv records 2 and 3: the first .negative.: 'conversations' is text, expected"
    ):
        load(tmp_path)
    assert numbers(load(tmp_path, bad_pairs="skip")["train_dataset"]) == [0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('[{"from": "human"}]', [{"from": "human"}]),
        ("[{'from': 'human', 'value': None}]", [{"from": "human", "value": None}]),
        ("[INST] no list", "[INST] no list"),
        ("[" * 100_000, "[" * 100_000),
        ("text", "text"),
        ({"from": ["human", "gpt"], "value": ["u", "a"]}, [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]),
        ({"from": "gpt", "value": "a"}, {"from": "gpt", "value": "a"}),
        ([], []),
        (None, None),
    ],
)  # fmt: skip
def test_turns_of_a_table(value, expected):
    assert turns(value) == expected
