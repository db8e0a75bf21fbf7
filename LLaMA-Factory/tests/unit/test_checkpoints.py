"""Which checkpoint a training goes on from: the last whole one."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from llamafactory_sdpo.errors import OptionError
from llamafactory_sdpo.host.checkpoints import choose, why_not_whole


def write_checkpoint(output, step):
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"w": torch.arange(100.0)}, folder / "model.safetensors")
    torch.save({"state": torch.arange(100.0)}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    return folder


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_file_that_ends_too_early(tmp_path, name):
    folder = write_checkpoint(tmp_path, 1)
    assert why_not_whole(folder) is None
    cut(folder / name)
    assert why_not_whole(folder) == f"{name} is damaged"
    cut(folder / name, 0)
    assert why_not_whole(folder) == f"{name} is damaged"


def test_a_file_that_was_not_written(tmp_path):
    folder = write_checkpoint(tmp_path, 1)
    (folder / "trainer_state.json").unlink()
    assert why_not_whole(folder) == "trainer_state.json is missing"
    folder = write_checkpoint(tmp_path, 2)
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert why_not_whole(folder) == "model-1.safetensors is missing"
    assert why_not_whole(tmp_path / "none") == "there is no such folder"


@pytest.mark.parametrize("asked", [True, "true", None])
def test_torn_checkpoints_are_passed_over(tmp_path, caplog, asked):
    """Also where the host has chosen the last one by itself; 20 comes after 9."""
    whole, torn = write_checkpoint(tmp_path, 9), write_checkpoint(tmp_path, 20)
    (torn / "trainer_state.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert choose(asked, str(tmp_path), None if asked else str(torn)) == str(whole)
    assert "checkpoint-20 is passed over, since it is not whole: trainer_state.json is missing" in caplog.text


def test_what_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(OptionError, match="has no whole checkpoint; leave it out to begin"):
        choose(True, str(tmp_path / "none"), None)
    with pytest.raises(OptionError, match="checkpoint-1 is not a whole checkpoint: there is no such folder"):
        choose(str(tmp_path / "checkpoint-1"), str(tmp_path), str(tmp_path / "checkpoint-1"))
    folder = write_checkpoint(tmp_path, 1)
    assert choose(str(folder), str(tmp_path), str(folder)) == str(folder)


def test_nothing_to_go_on_from(tmp_path):
    assert choose(None, str(tmp_path), None) is None
    assert choose(False, str(write_checkpoint(tmp_path, 1).parent), None) is None
    cut(tmp_path / "checkpoint-1" / "optimizer.pt")
    assert choose(None, str(tmp_path), str(tmp_path / "checkpoint-1")) is None
