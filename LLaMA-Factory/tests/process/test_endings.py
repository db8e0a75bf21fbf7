"""How a training ends that cannot end well: in one line, before anything is written that looks like a result."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import small
import torch
from safetensors.torch import load_file
from transformers import Trainer

from llamafactory_sdpo import train as command
from llamafactory_sdpo.errors import OptionError, TrainingFailed, UserError
from llamafactory_sdpo.host.checkpoints import why_not_whole
from llamafactory_sdpo.host.data import prepare_pairs
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


def test_other_modules_that_the_model_lacks(home):
    with pytest.raises(OptionError, match="additional_target: the model has no module 'foo'") as error:
        train(home, "modules", finetuning_type="lora", additional_target="lm_head,foo")
    assert error.value.key == "additional_target"
    with pytest.raises(UserError, match="Module foo is not found, please choose from"):
        train(home, "modules", finetuning_type="freeze", freeze_trainable_modules="foo")
    assert not (home / "modules").exists()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"stage": "sft", "dataset": "sft"}, "set resize_vocab: true, or choose the model's own template"),
        (
            {"stage": "sft", "dataset": "sft", "do_train": False, "do_eval": True, "val_size": 0.5},
            "set resize_vocab: true, or",
        ),
        ({"finetuning_type": "lora"}, "set resize_vocab: true, or"),
        ({}, "nor has its reference; train with it in SFT first, or use finetuning_type: lora"),
        ({"resize_vocab": True}, "nor has its reference"),
    ],
)
def test_a_template_whose_tokens_the_model_lacks(home, options, remedy):
    """Else PyTorch says "index out of range in self"; the host gives rows to the model, not to its reference."""
    with pytest.raises(OptionError, match=f"template gemma .* no row for \\(<end_of_turn>\\).*{remedy}") as error:
        train(home, "rows", template="gemma", **options)
    assert error.value.key == "template" and not (home / "rows").exists()


@pytest.mark.parametrize("options", [{"stage": "sft", "dataset": "sft"}, {"finetuning_type": "lora"}])
def test_rows_are_added_under_resize_vocab(home, options):
    train(home, f"rows-{len(options)}", template="gemma", resize_vocab=True, **options)


def broken_models(home: Path) -> dict[str, Path]:
    """Folders of a model without its tokenizer, without its weights, and with half of them."""
    found = {}
    for name, files in {"tokenizer": "token*", "weights": "*.safetensors", "half": "nothing"}.items():
        found[name] = home / f"without {name}"
        shutil.copytree(home / "model", found[name], ignore=shutil.ignore_patterns(files), dirs_exist_ok=True)
    weights = found["half"] / "model.safetensors"
    weights.write_bytes((home / "model" / "model.safetensors").read_bytes()[: weights.stat().st_size // 2])
    return found


@pytest.mark.parametrize(
    ("broken", "options", "message"),
    [
        ("tokenizer", {}, "model_name_or_path .*without tokenizer: "),
        # Rows of a template are not looked for here, so it is the host that loads first.
        ("tokenizer", {"finetuning_type": "lora", "resize_vocab": True}, "a model cannot be loaded: .*tokenizer"),
        ("weights", {"finetuning_type": "lora"}, "a model cannot be loaded: .*without weights"),
        ("half", {"finetuning_type": "lora"}, "a model cannot be loaded: .*incomplete"),
    ],
)
def test_a_model_that_cannot_be_loaded(home, broken, options, message):
    with pytest.raises(UserError, match=message) as error:
        train(home, "broken", model_name_or_path=str(broken_models(home)[broken]), **options)
    assert "\n" not in str(error.value) and not (home / "broken").exists()


def test_a_model_that_is_nowhere_is_said_before_ranks_start(home):
    with pytest.raises(OptionError, match="model_name_or_path no/model: ") as error:
        prepare_pairs(small.config(home, model_name_or_path="no/model"))
    assert error.value.key == "model_name_or_path"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "sft", "dataset": "ranked"}, "The dataset is not applicable in the current training stage"),
        ({"stage": "dpo", "dataset": "ranked"}, "Cannot find valid samples"),
    ],
)
def test_data_that_a_stage_of_the_host_refuses(home, options, message):
    """Its DPO takes no answer of several turns, and drops all of these."""
    with pytest.raises(UserError, match=message):
        train(home, "data", **options)
    assert not (home / "data" / "model.safetensors").exists()


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


@pytest.mark.parametrize("options", [{}, {"stage": "sft", "dataset": "sft"}])
def test_a_training_that_has_ended_takes_no_further_step(home, options):
    """As one does that was killed while its model was saved, after the checkpoint of the last step."""
    again = {"save_strategy": "steps", "save_steps": 1, "overwrite_output_dir": False, "max_steps": 4, **options}
    output = train(home, f"ended-{len(options)}", **again)
    expected = load_file(output / "model.safetensors")
    (output / "model.safetensors").unlink()
    train(home, output.name, **again)
    found = load_file(output / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len(small.losses(output)) == 4 and not (output / "checkpoint-5").exists()


def test_a_checkpoint_that_is_written_over_is_not_whole_until_it_is(home, monkeypatch):
    """Else its old state would vouch for a new model beside an old optimizer."""
    options = {"save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-4}
    output = train(home, "over", **options)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", killed)
    with pytest.raises(KeyboardInterrupt):
        train(home, "over", **options, resume_from_checkpoint=str(output / "checkpoint-1"))
    assert why_not_whole(output / "checkpoint-2") == "trainer_state.json is missing"
    assert why_not_whole(output / "checkpoint-3") is None


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
        "of an earlier run, in the same folder: eval_results.json, training_loss.png, training_curves.png",
    ]
