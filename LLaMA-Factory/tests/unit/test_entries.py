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
