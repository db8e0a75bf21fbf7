"""The file that a dataset's name stands for, with SDPO_HOME and without."""

import json

import pytest
from conftest import ROOT

from llamafactory_sdpo import entries
from llamafactory_sdpo.errors import OptionError, UserError
from llamafactory_sdpo.host.data import dataset_list
from llamafactory_sdpo.launcher import announce_files


DATA = str(ROOT / "data")
STEP_DATASETS = {
    "sft_data": "sft_data.json",
    "preference_data": "preference_data_auto.json",
    "eto_data": "eto_data.json",
    "positive_data": "positive_data.json",
}


@pytest.mark.parametrize(("name", "file"), STEP_DATASETS.items())
def test_files_of_the_steps_follow_the_variable(tmp_path, monkeypatch, name, file):
    monkeypatch.delenv("SDPO_HOME", raising=False)
    assert entries.file_of(name, DATA) == ROOT.parent / "dpo" / "data" / file
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    assert entries.file_of(name, DATA) == tmp_path / file
    (attr,) = dataset_list([name], DATA)
    assert attr.dataset_name == str(tmp_path / file)


@pytest.mark.parametrize("name", STEP_DATASETS)
def test_tools_of_a_step_file_are_read_where_it_has_them(tmp_path, monkeypatch, name):
    """The host takes a column that an entry names for granted, so the entries, which are for any agent, do not."""
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    path = tmp_path / STEP_DATASETS[name]
    for record, expected in ({"tools": "[]"}, "tools"), ({"value": 'say "tools": [1]'}, None):
        path.write_text(json.dumps([{"conversations": [], **record}], indent=1), encoding="utf-8")
        (attr,) = dataset_list([name], DATA)
        assert attr.tools == expected


def test_other_files_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    assert entries.file_of("demo_pairs", DATA) == ROOT / "data" / "demo_pairs.json"
    assert entries.file_of("published_sdpo", DATA) == ROOT / "data" / "preference_data_auto.json"
    assert entries.file_of("none", DATA) is None
    assert entries.file_of("demo_pairs", "ONLINE") is None


def test_a_file_in_another_place_is_not_trained_on(tmp_path, monkeypatch):
    """The one in dpo/data would be of an older run; the message names the right path and the step that writes it."""
    from llamafactory_sdpo.data.dataset import load_pairs
    from llamafactory_sdpo.data.pairing import Rules

    checkout = tmp_path / "LLaMA-Factory" / "data"
    (tmp_path / "dpo" / "data").mkdir(parents=True)
    (tmp_path / "dpo" / "data" / "preference_data_auto.json").write_text("[]", encoding="utf-8")
    checkout.mkdir(parents=True)
    (checkout / entries.INFO).write_bytes((ROOT / "data" / entries.INFO).read_bytes())
    monkeypatch.setenv("SDPO_HOME", str(tmp_path / "home"))
    (attr,) = dataset_list(["preference_data"], str(checkout))
    missing = f"{tmp_path}/home/preference_data_auto.json does not exist; python dpo/auto_tail.py writes it"
    with pytest.raises(UserError, match=missing):
        load_pairs(attr, Rules("sdpo", "segment", "stop"), str(checkout), None, 0, str(tmp_path / "cache"))


def test_the_file_of_a_name_that_does_not_tell_it_is_printed(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("SDPO_HOME", raising=False)
    announce_files({"dataset": "preference_data,demo_pairs", "eval_dataset": ["eto_data"], "dataset_dir": DATA})
    assert capsys.readouterr().out == (
        f"dataset preference_data is {ROOT.parent}/dpo/data/preference_data_auto.json\n"
    )
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    announce_files({"dataset": "eto_data, demo_pairs", "dataset_dir": DATA})
    assert capsys.readouterr().out == f"dataset eto_data is {tmp_path}/eto_data.json\n"


def test_a_name_that_is_a_number_is_one(capsys, tmp_path):
    """YAML reads `dataset: 2024` as a number, and the host then takes it for the name."""
    (tmp_path / entries.INFO).write_text(json.dumps({"2024": {"file_name": "y.json"}}), encoding="utf-8")
    announce_files({"dataset": 2024, "eval_dataset": [2024], "dataset_dir": str(tmp_path)})
    assert capsys.readouterr().out == f"dataset 2024 is {tmp_path}/y.json\n"


def test_a_name_that_no_terminal_takes_is_printed_as_escapes(capsys, tmp_path):
    half = {"h": {"file_name": "half\ud83d.json"}, "e": {"file_name": "esc\x1b[31m.json"}}
    (tmp_path / entries.INFO).write_text(json.dumps(half), encoding="utf-8")
    announce_files({"dataset": "h,e", "dataset_dir": str(tmp_path)})
    assert capsys.readouterr().out == (
        f"dataset h is {tmp_path}/half\\ud83d.json\ndataset e is {tmp_path}/esc\\x1b[31m.json\n"
    )


def test_names_that_are_not_there(tmp_path):
    (tmp_path / entries.INFO).write_text(json.dumps({"pairs": {}, "ranked": {}}), encoding="utf-8")
    with pytest.raises(
        OptionError, match="Undefined dataset pars in .*info.json; did you mean pairs. It has pairs, ra"
    ):
        entries.check_names("dataset", ["pairs", "pars"], str(tmp_path))
    with pytest.raises(OptionError, match="Undefined dataset x in .*info.json; it has pairs, ranked"):
        entries.check_names("eval_dataset", ["x"], str(tmp_path))
    entries.check_names("dataset", ["org/name"], "ONLINE")
    (tmp_path / entries.INFO).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="dataset_info.json is not JSON"):
        entries.check_names("dataset", ["pairs"], str(tmp_path))


# ---- names that are paths, or of the hub -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pairs.json", "my pairs.jsonl", "./folder", "~/x.parquet", "/x", "a/b/c", "A.JSON.GZ"]
)
def test_a_name_that_is_written_as_a_path(name):
    assert entries.is_path(name)


@pytest.mark.parametrize("name", ["demo_pairs", "org/name", "name.v2"])
def test_a_name_that_is_not(name):
    assert not entries.is_path(name)


def test_every_ending_that_is_read_makes_a_path():
    from llamafactory_sdpo.data.sources import ENDINGS, JSON_ENDINGS

    assert all(ending.endswith(entries.FILE_ENDINGS) for ending in (*ENDINGS, *JSON_ENDINGS))


def test_an_entry_goes_before_a_path_and_a_path_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "pairs").mkdir()
    (tmp_path / entries.INFO).write_text(json.dumps({"pairs": {"file_name": "x.json"}}), encoding="utf-8")
    assert entries.path_of("pairs", str(tmp_path)) is None
    assert entries.path_of("org/name", str(tmp_path)) == tmp_path / "org" / "name"
    assert entries.path_of("org/other", str(tmp_path)) is None and entries.is_of_the_hub("org/other", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "org"))
    assert entries.path_of("~/name", "ONLINE") == tmp_path / "org" / "name"
    described = dataset_list(["pairs", "org/name", "org/other"], str(tmp_path))
    assert [(attr.load_from, attr.dataset_name) for attr in described] == [
        ("file", "x.json"), ("file", str(tmp_path / "org" / "name")), ("hf_hub", "org/other"),
    ]  # fmt: skip
    assert entries.path_of("none", "/no/folder") is None
    assert dataset_list(["x.json"], "/no/folder")[0].dataset_name == str(tmp_path / "x.json")


def test_a_path_is_for_our_stages_and_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / entries.INFO).write_text(json.dumps({"pairs": {}}), encoding="utf-8")
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    entries.check_names("dataset", ["pairs", "a.json", "org/name"], str(tmp_path))
    with pytest.raises(
        OptionError, match=f"{tmp_path}/b.json does not exist; correct the path, or add an entry b.json"
    ):
        entries.check_names("dataset", ["b.json"], str(tmp_path))
    with pytest.raises(OptionError, match="does not exist; correct the path"):
        entries.check_names("dataset", ["x" * 999 + ".json"], str(tmp_path))
    with pytest.raises(OptionError, match="Undefined dataset xxx"):
        entries.check_names("dataset", ["x" * 999], str(tmp_path))
    for name in ("a.json", "org/name"):
        with pytest.raises(OptionError, match=f"{name} is not in dataset_info.json, .* sdpo, eto read it as it is"):
            entries.check_names("dataset", [name], str(tmp_path), ("sdpo", "eto"))
