"""Which checkpoint a training goes on from: the last whole one."""

import json
import logging

import pytest
import small
import torch
from safetensors.torch import save_file

from llamafactory_sdpo.errors import OptionError
from llamafactory_sdpo.host import checkpoints
from llamafactory_sdpo.host.checkpoints import agreed, asked_for, check_deepspeed_state, choose, why_not_whole
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner


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


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "rank0-of-2-optimizer.pt", "optimizer.bin", "optimizer_0/", "global_step3/"]
)
def test_an_optimizer_that_begins_anew_is_told(tmp_path, caplog, name):
    """Whichever way the checkpoint is chosen; not where its state is there, under any of the host's names."""
    folder = write_checkpoint(tmp_path, 1)
    (folder / "optimizer.pt").unlink()
    ways = [(True, None), (None, str(folder)), (str(folder), None)]
    with caplog.at_level(logging.WARNING):
        for asked, found in ways:
            assert choose(asked, str(tmp_path), found) == str(folder)
        assert caplog.text.count("checkpoint-1 has no state of the optimizer (save_only_model") == len(ways)
        caplog.clear()
        (folder / name).mkdir() if name.endswith("/") else torch.save({}, folder / name)
        for asked, found in ways:
            choose(asked, str(tmp_path), found)
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ({"resume_from_checkpoint": False, "seed": 1}, False),
        ({"seed": 1}, None),
        (["--seed", "1", "--resume_from_checkpoint", "out/checkpoint-9"], "out/checkpoint-9"),
        (["--resume-from-checkpoint=true", "--output_dir", "out"], "true"),
        (["--output_dir", "out"], None),
    ],
)
def test_what_was_asked_for(args, asked):
    assert asked_for(args) == asked


def test_flags_pass_over_a_torn_checkpoint_as_a_config_does(tmp_path):
    """Nobody has asked for it: it is the host that has found it."""
    install()
    small.write_data(tmp_path / "data")
    small.write_model(tmp_path / "model")
    whole, torn = write_checkpoint(tmp_path / "out", 1), write_checkpoint(tmp_path / "out", 2)
    (torn / "trainer_state.json").unlink()
    config = small.config(tmp_path, overwrite_output_dir=False)
    flags = [word for key, value in config.items() for word in (f"--{key}", str(value))]
    for args in (config, flags):
        assert host_tuner.get_train_args(args)[2].resume_from_checkpoint == str(whole)


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


def test_a_checkpoint_without_the_state_of_deepspeed(tmp_path):
    folder = write_checkpoint(tmp_path, 1)
    with pytest.raises(OptionError, match="checkpoint-1 has no state of DeepSpeed .*save_only_model: false"):
        check_deepspeed_state(folder)
    (folder / "global_step1").mkdir()
    check_deepspeed_state(folder)


@pytest.mark.parametrize("others", ["checkpoint-2", "none"])
def test_ranks_that_do_not_find_the_same_checkpoint(monkeypatch, others):
    """As on machines with disks of their own; also where one of them finds none and says so."""

    class TwoRanks:
        is_available = is_initialized = staticmethod(lambda: True)
        get_world_size = staticmethod(lambda: 2)

        @staticmethod
        def all_gather_object(everywhere, mine):
            everywhere[:] = [mine, others]

    monkeypatch.setattr(checkpoints, "dist", TwoRanks)
    assert agreed(lambda: None if others == "none" else others) == (None if others == "none" else others)
    with pytest.raises(
        OptionError, match=f"rank 0: checkpoint-1, rank 1: {others}.* that all machines share"
    ) as error:
        agreed(lambda: "checkpoint-1")
    assert error.value.key == "resume_from_checkpoint"

    def none():
        raise OptionError("resume_from_checkpoint", "there is none here")

    with pytest.raises(OptionError, match="there is none here" if others == "none" else "do not find the same"):
        agreed(none)


def test_tensors_are_loaded_on_a_rank_of_cpus(tmp_path):
    """As the trainer does with an optimizer's state where there are several ranks without accelerators."""
    install()
    torch.save({"step": torch.arange(3)}, tmp_path / "optimizer.pt")
    found = torch.load(tmp_path / "optimizer.pt", map_location=torch.device("cpu", 1), weights_only=True)
    assert found["step"].tolist() == [0, 1, 2] and found["step"].device.type == "cpu"
