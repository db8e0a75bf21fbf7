"""How a training ends that cannot end well: in one line, before anything is written that looks like a result."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import small
from transformers import Trainer

from llamafactory_sdpo import train as command
from llamafactory_sdpo.errors import OptionError, TrainingFailed, UserError
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.step.trainer import SegmentTrainer


install()
NAN = {"learning_rate": 1e10, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("endings")
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    return folder


def train(home: Path, name: str, **options: object) -> Path:
    host_tuner.run_exp(small.config(home, output_dir=str(home / name), **options))
    return home / name


@pytest.mark.parametrize("options", [{}, {"finetuning_type": "lora"}, {"stage": "eto"}, {"max_steps": 1}])
def test_a_nan_ends_the_training_at_its_step(home, options):
    """The first update throws the weights so far that no loss is a number (or gradient, for LoRA): none is saved."""
    name = "-".join(map(str, ["nan", *options.values()]))
    with pytest.raises(
        TrainingFailed, match=r"step [12]: .* not (a number|numbers) on .*pairs.json records \d+ and \d+"
    ) as error:
        train(home, name, **options, **NAN)
    assert "\n" not in str(error.value)
    assert not list((home / name).glob("*.safetensors")) and not (home / name / "checkpoint-2").exists()


def test_the_last_good_checkpoint_stays(home, monkeypatch):
    """A loss that is no number in the third step leaves the checkpoint of the second, of which only one is kept."""
    loss = SegmentTrainer.compute_preference_loss

    def broken(self, *logps):
        losses, *rewards = loss(self, *logps)
        return losses * (float("nan") if self.model.training and self.state.global_step == 2 else 1), *rewards

    monkeypatch.setattr(SegmentTrainer, "compute_preference_loss", broken)
    with pytest.raises(TrainingFailed, match=r"step 3: the loss is nan on .*pairs.json records \d+ and \d+"):
        train(home, "good", save_strategy="steps", save_steps=1, save_total_limit=1, max_steps=4)
    assert [path.name for path in (home / "good").glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (home / "good" / "model.safetensors").exists()


def test_a_nan_ends_a_stage_of_the_host(home):
    with pytest.raises(TrainingFailed, match="step 2: .*; nothing of it is saved, and checkpoints in .* stay"):
        train(home, "sft", stage="sft", dataset="sft", learning_rate=1e10)
    assert not (home / "sft" / "model.safetensors").exists()


@pytest.mark.parametrize("target", ["foo", "q_proj,foo"])
def test_a_lora_target_that_the_model_lacks(home, target):
    """PEFT itself says nothing if it finds another one."""
    with pytest.raises(OptionError, match="lora_target: .*foo"):
        train(home, "targets", finetuning_type="lora", lora_target=target)
    assert not (home / "targets").exists()


def test_a_package_that_is_missing(home):
    with pytest.raises(UserError, match="pip install .*bitsandbytes"):
        train(home, "packages", optim="adamw_bnb_8bit")
    assert not (home / "packages").exists()


def test_a_file_of_the_steps_that_is_missing(home):
    with pytest.raises(UserError, match=r"sft_data.json does not exist; python dpo/sft_data.py writes it"):
        (home / "steps").mkdir()
        (home / "steps" / "dataset_info.json").write_text('{"sft_data": {"file_name": "sft_data.json"}}')
        train(home, "missing", stage="sft", dataset="sft_data", dataset_dir=str(home / "steps"))


def test_a_full_disk_leaves_whole_checkpoints_to_go_on_from(home, monkeypatch):
    """The optimizer of the second checkpoint does not fit; the next run goes on from the first."""
    options = {"save_strategy": "steps", "save_steps": 1, "overwrite_output_dir": False}
    expected = small.losses(train(home, "whole", **options))
    save = Trainer._save_optimizer_and_scheduler

    def full(self, output_dir):
        if output_dir.endswith("checkpoint-2"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, output_dir)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(TrainingFailed, match="the disk is full .*resume_from_checkpoint=true"):
            train(home, "full", **options)
    assert (home / "full" / "checkpoint-2" / "model.safetensors").exists()
    for how in (True, None):
        copy = home / f"again-{how}"
        shutil.copytree(home / "full", copy)
        assert small.losses(train(home, copy.name, resume_from_checkpoint=how, **options)) == expected


def test_a_run_reports_its_own_results(home, capsys):
    output = home / "twice"
    config = {"stage": "sdpo", "do_train": True, "output_dir": str(output), "val_size": 3}
    train(home, "twice", val_size=3, do_eval=True, plot_loss=True)
    command.report(config, False)
    assert "3 pairs" in capsys.readouterr().out
    earlier = command.results_in(output)
    train(home, "twice")
    capsys.readouterr()
    command.report(config | {"val_size": 0}, False, earlier)
    assert capsys.readouterr().out.splitlines() == [
        "no pairs held out",
        f"model: {output}",
        "of an earlier run, in the same folder: eval_results.json, training_loss.png",
    ]
