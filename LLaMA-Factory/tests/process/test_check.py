"""`--check` says what a training then is, and writes nothing; and the screen of that training."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import small
import torch
import yaml
from datasets import config as datasets_config
from llamafactory.model import load_model
from transformers import AutoModelForCausalLM

from llamafactory_sdpo import train as command
from llamafactory_sdpo.errors import UserError, run_at_edge
from llamafactory_sdpo.host.counting import Arguments, Split, model_of, parse, setting_of
from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.models import tokenizer_of
from llamafactory_sdpo.host.names import host_tuner
from llamafactory_sdpo.launcher import ranks_of
from llamafactory_sdpo.screen.curves import FIGURE


install()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "my runs"
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    (folder / "list.json").write_text("[]", encoding="utf-8")
    options = {"max_steps": -1, "num_train_epochs": 2, "val_size": 3, "do_eval": True}
    (folder / "sdpo.yaml").write_text(yaml.safe_dump(small.config(folder, **options)), encoding="utf-8")
    return folder


def files_below(*folders: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def check(home: Path, monkeypatch, *items: str) -> int:
    monkeypatch.chdir(home)
    return run_at_edge(lambda: command.run(["sdpo.yaml", *items]))


def loaded_by_the_host(arguments: Arguments) -> torch.nn.Module:
    return load_model(tokenizer_of(arguments.model)["tokenizer"], arguments.model, arguments.tuning, True)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_weights_that_are_not_trained_are_kept_as_they_are_stored(home, tmp_path, stored, options):
    """Whatever is computed with; under DeepSpeed all of them are of that type, which needs a machine to be seen."""
    shutil.copytree(home / "model", tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(home / "model", dtype=stored).save_pretrained(tmp_path / "model")
    options = {**options, "model_name_or_path": str(tmp_path / "model"), "finetuning_type": "lora"}
    arguments = parse(small.config(home, **options))
    found = {part.dtype for part in loaded_by_the_host(arguments).parameters() if not part.requires_grad}
    splits = {"train": Split(1, 1, 1, 1, 1)}
    setting = setting_of(arguments, 1, splits)
    assert [setting.frozen_width] == [kind.itemsize for kind in found] == [setting.reference_width]
    zero = str(command.ROOT / "examples" / "deepspeed" / "ds_z3_config.json")
    sharded = setting_of(parse(small.config(home, deepspeed=zero, **options)), 1, splits)
    assert sharded.frozen_width == (2 if options.get("bf16") else stored.itemsize)


@pytest.mark.parametrize(
    "options",
    [
        {"finetuning_type": "full"},
        {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
        {"finetuning_type": "freeze", "freeze_trainable_layers": -1, "freeze_trainable_modules": "mlp,self_attn"},
        {"finetuning_type": "freeze", "freeze_trainable_modules": "mlp", "freeze_extra_modules": "embed_tokens"},
        {"finetuning_type": "lora"},
        {"finetuning_type": "lora", "lora_target": "self_attn.q_proj,down_proj", "lora_rank": 3},
        {"finetuning_type": "lora", "additional_target": "embed_tokens"},
        {"finetuning_type": "lora", "resize_vocab": True},
    ],
)
def test_what_is_trained_is_what_the_host_makes_trainable(home, options):
    """Its own count of the parameters of the loaded model that take a gradient."""
    arguments = parse(small.config(home, **options))
    found = model_of(arguments)
    loaded = loaded_by_the_host(arguments)
    assert found.trained + found.added == sum(part.numel() for part in loaded.parameters() if part.requires_grad)


def test_values_are_read_as_in_a_training(home):
    """In quotes "false" is false, and 2.0 is a whole number."""
    found = parse(small.config(home, do_eval="false", bf16="false", per_device_train_batch_size=2.0))
    assert not found.training.do_eval and not found.training.bf16
    assert repr(found.training.per_device_train_batch_size) == "2"
    assert parse(small.config(home, bf16=True, finetuning_type="lora", pure_bf16=True)).tuning.pure_bf16


def test_ranks_are_counted_as_they_are_started(monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "4")
    monkeypatch.setenv("USE_RAY", "1")
    assert ranks_of(workers=3) == 3
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    for nodes, ranks in (("1", 4), ("2", 8), ("2:5", 8)):
        monkeypatch.setenv("NNODES", nodes)
        assert ranks_of(workers=1) == ranks
    for name, value in {"RDZV_ID": "job", "MIN_NNODES": "3", "MAX_NNODES": "4"}.items():
        monkeypatch.setenv(name, value)
    assert ranks_of(workers=1) == 12
    monkeypatch.setenv("MIN_NNODES", "few")
    with pytest.raises(UserError, match="NNODES is 'few:4', expected a number of machines"):
        ranks_of(workers=1)


@pytest.mark.parametrize("stage", ["sdpo", "sft"])
def test_a_check_says_what_the_training_then_is(home, monkeypatch, capsys, stage):
    """Steps, rows and scored tokens, which the log of a training holds as means; and nothing is written."""
    cache = Path(datasets_config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    dataset = "pairs" if stage == "sdpo" else "sft"
    before = files_below(home, cache)
    assert check(home, monkeypatch, "--check", f"stage={stage}", f"dataset={dataset}") == 0
    assert files_below(home, cache) == before
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) < 80 and out.endswith("in order; nothing was written\n")
    counts = re.search(r"^train +([\d,]+) \w+, ([\d,]+) of ([\d,]+) tokens", out, re.MULTILINE).groups()
    rows, scored, _ = (int(count.replace(",", "")) for count in counts)
    (steps,) = map(int, re.findall(r"^steps +(\d+),", out, re.MULTILINE))

    output = home / stage
    given = yaml.safe_load((home / "sdpo.yaml").read_text(encoding="utf-8"))
    host_tuner.run_exp(given | {"stage": stage, "dataset": dataset, "output_dir": str(output), "plot_loss": True})
    shown = capsys.readouterr().out
    logged = [entry for entry in small.history(output) if "loss" in entry]
    assert len(logged) == steps == len(re.findall(r"^step .* left$", shown, re.MULTILINE))
    assert rows == {"sdpo": 9, "sft": 21}[stage]
    if stage == "sdpo":
        # Of a batch of two pairs, or the last one of one, the mean of a side.
        sizes = [2, 2, 2, 2, 1]
        tokens = [(entry["tokens/chosen"] + entry["tokens/rejected"]) * size for entry, size in zip(logged, sizes)]  # noqa: B905
        assert scored == round(sum(tokens))

    # The screen: no dicts, which stand in the log, whole; and one figure beside the host's.
    assert "{'" not in shown and "input_ids" not in shown and "*****" not in shown and "Figure saved" not in shown
    entries = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()]
    first = next(entry for entry in entries if "loss" in entry)
    assert {"current_steps", "remaining_time", "grad_norm"} <= set(first)
    assert ("rewards/margins" in first) == (stage == "sdpo")
    assert (output / FIGURE).is_file()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["learning_rate=fast"], "command line: `learning_rate` is 'fast', expected a number"),
        (["template=lama3"], "command line: template 'lama3' is not one of the host's; did you mean llama3"),
        (["model_name_or_path=./gone"], "model_name_or_path"),
        (["dataset=pars"], "did you mean pairs"),
        # What a system says of a name, as also of a folder of somebody else's, which root may enter.
        (["output_dir=" + "x" * 300], "file name too long; name another"),
        (["model_name_or_path=./" + "x" * 300], "does not exist"),
        (["cutoff_len=16"], "longer than cutoff_len 16"),
        (["lr_scheduler_type=wavy"], "wavy"),
        (["deepspeed=gone.json"], "command line: deepspeed gone.json cannot be read"),
        (["deepspeed=list.json"], "list.json is a list, expected a JSON object"),
        (["check=perhaps"], "`check` is 'perhaps', expected true or false"),
        # What the host's own parser refuses.
        (["streaming=true", "val_size=0", "do_eval=false"], "specify `max_steps` in streaming mode"),
        (["adapter_name_or_path=model"], "Adapter is only valid for the LoRA method"),
        (["predict_with_generate=true"], "command line: `predict_with_generate` cannot be set as True except SFT"),
        (["output_dir=model", "overwrite_output_dir=false"], "already exists and is not empty"),
        (["resume_from_checkpoint=true"], "resume_from_checkpoint is true, but"),
    ],
)
def test_what_a_training_refuses_a_check_refuses(home, monkeypatch, capsys, items, message):
    assert check(home, monkeypatch, *items, *([] if "check=perhaps" in items else ["check=true"])) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert message in line


def test_the_memory_of_the_ways_of_training(home, monkeypatch, capsys):
    """Whoever has no weights of its own to train has less of everything but frozen weights."""
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    monkeypatch.setenv("NPROC_PER_NODE", "4")
    zero = Path(command.ROOT) / "examples" / "deepspeed" / "ds_z3_config.json"
    assert check(home, monkeypatch, "--check", f"deepspeed={zero}", "bf16=true") == 0
    out = capsys.readouterr().out
    assert "ZeRO-3 over 4" in out and "reference's pass before the first step" in out
    assert "(2 x 4 ranks x 1 accumulated)" in out
    config = json.loads(zero.read_text(encoding="utf-8"))
    config["zero_optimization"] |= {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}
    (home / "away.json").write_text(json.dumps(config), encoding="utf-8")
    assert check(home, monkeypatch, "--check", "deepspeed=away.json", "bf16=true") == 0
    assert "in the machine's memory, and not counted: weights and optimizer\n" in capsys.readouterr().out
    monkeypatch.delenv("FORCE_TORCHRUN")
    assert check(home, monkeypatch, "finetuning_type=lora", "check=true") == 0
    out = capsys.readouterr().out
    assert "(LoRA)" in out and "the policy with its adapter off" in out


def test_the_demo_can_be_checked_before_its_model_is_built(monkeypatch, capsys, tmp_path):
    from llamafactory_sdpo.demo import build

    monkeypatch.setattr(build, "DEMO_MODEL", tmp_path / "base")
    monkeypatch.setattr(command, "DEMO_MODELS", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ[name])
    items = [str(command.DEMO_CONFIG), f"model_name_or_path={tmp_path / 'base'}", f"output_dir={tmp_path / 'out'}"]
    assert run_at_edge(lambda: command.run([*items, "--check"])) == 0
    assert re.search(r"^steps +135, 45 an epoch", capsys.readouterr().out, re.MULTILINE)
    assert not list(tmp_path.iterdir())
