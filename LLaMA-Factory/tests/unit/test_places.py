"""Where things are in a checkout, and in an installed package, whose layout is put into the module here."""

import pytest
from conftest import ROOT

from llamafactory_sdpo import entries, places


@pytest.mark.parametrize("name", ["examples/demo/sdpo.yaml", "LLaMA-Factory/examples/demo/sdpo.yaml"])
def test_an_example_is_found_by_its_name(name):
    assert places.example(name) == ROOT / "examples" / "demo" / "sdpo.yaml"


@pytest.mark.parametrize("name", ["examples/demo/none.yaml", "demo/sdpo.yaml", "data/dataset_info.json", ""])
def test_other_names_are_no_examples(name):
    assert places.example(name) is None


def test_a_checkout_keeps_all_where_it_was(monkeypatch, tmp_path):
    monkeypatch.delenv(places.HOME_VARIABLE, raising=False)
    assert not places.IS_INSTALLED and places.ROOT == places.SHIPPED == ROOT and places.home() is None
    assert places.shipped("data") == "data"
    monkeypatch.setenv(places.HOME_VARIABLE, str(tmp_path))
    assert places.home() == tmp_path and places.ROOT == ROOT


def test_files_of_an_installed_package(monkeypatch, tmp_path):
    """What ships is read from the package, what the user has put beside it or made from the data folder."""
    shipped, home = tmp_path / "package", tmp_path / "home"
    for folder in (shipped / "data", home / "mine"):
        folder.mkdir(parents=True)
    (shipped / "data" / "demo_pairs.json").touch()
    monkeypatch.delenv(places.HOME_VARIABLE, raising=False)
    for module in (places, entries):
        for name, value in (("IS_INSTALLED", True), ("SHIPPED", shipped), ("ROOT", home)):
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(places, "user_data_path", lambda name: home)
    assert places.shipped("data") == str(shipped / "data") and places.shipped("mine") == "mine"
    assert places.shipped("meta-llama/Llama") == "meta-llama/Llama"
    data = str(shipped / "data")
    assert entries.moved("demo_pairs.json", data) == "demo_pairs.json"
    assert entries.moved("sft_data.json", data) == str(home / "data" / "sft_data.json")
    assert entries.moved("../../dpo/data/sft_data.json", data) == str(home / "sft_data.json")
    assert entries.moved("sft_data.json", str(home)) == "sft_data.json", "a folder of the user's own"
