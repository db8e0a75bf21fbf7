"""Trainings that are killed outright, or whose disk is full: what is on it can be used, and the end is the same."""

import random
from contextlib import ExitStack
from pathlib import Path

import killing
import oracle
import pytest
import small
import torch
from killing import STEPS
from transformers import AutoModelForCausalLM


SEED = 17
WAYS = {
    "full": {},
    "lora": {"finetuning_type": "lora", "lora_dropout": 0.1},
    "eto": {"stage": "eto"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    return folder


def config(home: Path, name: str, **options: object) -> dict[str, object]:
    """A config of eight steps, with a checkpoint after each, whose command can be repeated."""
    where = {"output_dir": str(home / name), "cache_dir": str(home / "cache")}
    return small.config(home, **where, **STEPS, save_steps=1, max_steps=8, **options)


def whole(home: Path, name: str, **options: object) -> Path:
    """Train without a stop."""
    code, said = killing.train(config(home, name, **options))
    assert code == 0, said[-3000:]
    return home / name


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_training_goes_on_to_the_same_weights(home, way):
    """Whatever it was doing: loading, the reference's pass, a step, or a checkpoint."""
    options = WAYS[way]
    expected = whole(home, f"{way}-whole", **options)
    draw = random.Random(f"{SEED} {way}")
    assert killing.killed_until_done(config(home, f"{way}-killed", **options), draw, kills=3)
    assert killing.same_weights(home / f"{way}-killed", expected)
    assert small.losses(home / f"{way}-killed") == small.losses(expected)


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_leaves_the_checkpoint_before(home, kind):
    """A small disk of its own, where this user may mount one; or a limit that the optimizer's file does not keep."""
    expected = whole(home, f"{kind}-whole")
    output, options = home / kind, config(home, kind)
    with ExitStack() as stack:
        if kind == "disk":
            files = [path for path in (expected / "checkpoint-1").iterdir() if path.is_file()]
            size = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
            try:
                stack.enter_context(killing.small_disk(output, int(size * 2.5)))
            except PermissionError as err:
                pytest.skip(str(err))
            code, said = killing.train(options)
        else:
            assert killing.Training(options).kill_at(3, 0)
            size = (expected / "checkpoint-1" / "optimizer.pt").stat().st_size
            code, said = killing.train(options, largest_file=size - 1)
        assert code == 1 and "error: the disk is full" in said and "Traceback" not in said, said[-3000:]
        assert not (output / "model.safetensors").exists()
        if kind == "disk":
            killing.make_larger(output, size * 20)
        code, said = killing.train(options)
        assert code == 0 and "is passed over, since it is not whole" in said, said[-3000:]
        assert killing.same_weights(output, expected)
        assert small.losses(output) == small.losses(expected)


def test_a_pair_whose_loss_is_no_number_is_named(home):
    """The model knows no number for a token that is in one pair alone, the eighth."""
    model = AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32)
    tokenizer = oracle.toy_tokenizer()
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.encode("7", add_special_tokens=False)] = torch.nan
    for saved in (model, tokenizer):
        saved.save_pretrained(home / "nan-model")
    options = {"model_name_or_path": str(home / "nan-model"), "per_device_train_batch_size": 1, "max_steps": 12}
    # Without a row for that token among the weights that are trained, which are looked at after every step.
    options["finetuning_type"] = "lora"
    code, said = killing.train(config(home, "nan") | options)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 1 and "the loss is nan on" in line and "pairs.json records 14 and 15;" in line
    assert not (home / "nan" / "adapter_model.safetensors").exists()
