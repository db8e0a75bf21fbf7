"""The seams with the host: each fails with a clear message when the host moves."""

import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import small
import torch
from conftest import ROOT
from transformers import HfArgumentParser

from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.arguments import (
    FinetuningArguments,
    check_keys,
    parse_anywhere,
    read_args,
)
from llamafactory_sdpo.host.data import prepare_pairs
from llamafactory_sdpo.host.install import RayWorker, install
from llamafactory_sdpo.host.names import (
    CustomDPOTrainer,
    host_dpo_trainer,
    host_dpo_workflow,
    host_loader,
    host_parser,
    host_tuner,
)
from llamafactory_sdpo.host.seams import check_host_version, seam, substituted
from llamafactory_sdpo.host.settings import check_merging, check_models, check_pair_stage


install()


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        (host_parser, "_TRAIN_ARGS", ()),
        (host_parser, "_INFER_ARGS", ()),
        (host_tuner, "_training_function", ("config",)),
        (host_tuner, "Worker", ()),
        (host_loader, "get_dataset", ("template", "model_args", "data_args", "training_args", "stage")),
        (host_loader, "_get_merged_dataset", ("dataset_names", "data_args", "training_args", "return_dict")),
        (host_loader, "_get_dataset_processor", ("data_args", "stage", "template", "tokenizer")),
        (host_dpo_workflow, "run_dpo", ("model_args", "data_args", "training_args", "finetuning_args")),
        (host_dpo_workflow, "get_dataset", ()),
        (host_dpo_workflow, "PairwiseDataCollatorWithPadding", ()),
        (host_dpo_workflow, "create_ref_model", ("model_args", "finetuning_args")),
        (host_dpo_trainer, "prepare_deepspeed", ("model", "accelerator")),
        (host_dpo_trainer, "prepare_fsdp", ("model", "accelerator")),
        (host_dpo_trainer, "CustomDPOTrainer", ("model", "ref_model", "finetuning_args", "processor")),
        (CustomDPOTrainer, "concatenated_forward", ("model", "batch", "is_ref_model")),
        (CustomDPOTrainer, "compute_reference_log_probs", ("model", "batch")),
        (CustomDPOTrainer, "compute_preference_loss", ("policy_chosen_logps", "reference_rejected_logps")),
        (CustomDPOTrainer, "get_batch_loss_metrics", ("model", "batch", "train_eval")),
    ],
)
def test_the_host_still_has_its_seams(module, name, parameters):
    seam(module, name, *parameters)


def test_a_seam_that_moved_is_named():
    module = ModuleType("llamafactory.made.up")
    with pytest.raises(UserError, match=r"no llamafactory.made.up.run_it any more; install llamafactory==0.9.5"):
        seam(module, "run_it")
    module.run_it = lambda model_args: None
    with pytest.raises(UserError, match="llamafactory.made.up.run_it of the host no longer takes data_args"):
        seam(module, "run_it", "model_args", "data_args")


def test_another_version_of_the_host_is_refused(monkeypatch):
    check_host_version()
    monkeypatch.setattr(metadata, "version", lambda name: "0.9.6")
    with pytest.raises(UserError, match="llamafactory 0.9.6 is installed, .* tested on 0.9.5 .*llamafactory==0.9.5"):
        check_host_version()


def test_installing_twice_changes_nothing():
    before = (host_tuner.run_dpo, host_tuner.get_train_args)
    install()
    assert before == (host_tuner.run_dpo, host_tuner.get_train_args)


def test_substitutions_end_with_their_block():
    before = host_dpo_workflow.get_dataset
    with pytest.raises(ZeroDivisionError), substituted(host_dpo_workflow, get_dataset=None):
        assert host_dpo_workflow.get_dataset is None
        raise ZeroDivisionError
    assert host_dpo_workflow.get_dataset is before


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["sdpo", "eto", "dmpo"])
def test_our_stages_are_dpo_to_the_host(stage):
    arguments = FinetuningArguments(stage=stage)
    assert (arguments.pair_stage, arguments.stage, arguments.use_ref_model) == (stage, "dpo", True)
    assert arguments.to_dict()["stage"] == stage
    assert not FinetuningArguments(stage=stage, pref_loss="simpo").use_ref_model


@pytest.mark.parametrize("stage", ["pt", "sft", "rm", "dpo", "kto"])
def test_the_hosts_stages_are_its_own(stage):
    arguments = FinetuningArguments(stage=stage)
    assert (arguments.pair_stage, arguments.stage) == (None, stage)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "sdop"}, "`stage` is 'sdop', did you mean sdpo?"),
        ({"stage": "sdpo", "segment_scope": "all"}, "`segment_scope` is 'all', expected one of segment, turn"),
        ({"stage": "eto", "segment_scope": "turn"}, "belongs to stage sdpo"),
        ({"stage": "dmpo", "dmpo_gamma": 0}, "`dmpo_gamma` is 0, expected a number above 0"),
        ({"stage": "dmpo", "dmpo_gamma": "0.7"}, "`dmpo_gamma` is '0.7'"),
        ({"stage": "sdpo", "overlong": "cut"}, "expected one of shorten, skip, stop"),
        ({"stage": "sdpo", "unequal_segments": "yes"}, "expected one of stop, warn, truncate"),
        ({"stage": "sdpo", "bad_pairs": "warn"}, "expected one of stop, skip"),
        ({"stage": "sdpo", "shared_history": "never"}, "`shared_history` is 'never', expected true or false"),
        ({"stage": "sdpo", "pref_beta": 0}, "`pref_beta` is 0, with which nothing is compared"),
        ({"stage": "sdpo", "ld_alpha": 0.5}, "`ld_alpha` is defined for one answer"),
        ({"stage": "sdpo", "pref_loss": "ipo", "dpo_label_smoothing": 0.1}, "only valid for sigmoid"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FinetuningArguments(**options)


def test_help_names_the_losses_that_are_computed(capsys):
    with pytest.raises(SystemExit):
        HfArgumentParser(FinetuningArguments).parse_args_into_dataclasses(["--help"])
    (choices,) = re.findall(r"--pref_loss \{(.*?)\}", capsys.readouterr().out)[:1]
    assert re.sub(r"\s", "", choices) == "sigmoid,hinge,ipo,orpo,simpo"
    assert FinetuningArguments(stage="sft", pref_loss="kto_pair").pref_loss == "kto_pair"


def test_unknown_keys_are_refused_with_the_key_that_was_meant():
    with pytest.raises(UserError, match="unknown key 'segmnt_scope'; did you mean segment_scope?"):
        check_keys({"stage": "sdpo", "segmnt_scope": "turn"})
    check_keys({"stage": "sdpo", "segment_scope": "turn", "learning_rate": 1e-6, "ray_num_workers": 1})


@pytest.mark.parametrize(
    ("model", "tuning", "refused"),
    [
        ({}, {}, False),
        ({"adapter_name_or_path": ["sft"]}, {}, True),
        ({"adapter_name_or_path": ["sft"]}, {"create_new_adapter": True}, False),
        ({"adapter_name_or_path": ["sft"]}, {"ref_model": "sft-merged"}, False),
        ({"adapter_name_or_path": ["sft"]}, {"pref_loss": "orpo"}, False),
        ({"use_kt": True}, {}, True),
        ({}, {"use_mca": True}, True),
    ],
)
def test_settings_that_would_silently_train_something_else(model, tuning, refused):
    model_args = SimpleNamespace(**{"adapter_name_or_path": None, "use_kt": False, **model})
    arguments = FinetuningArguments(stage="sdpo", finetuning_type="lora", **tuning)
    training = SimpleNamespace(do_train=True)
    if refused:
        with pytest.raises(UserError, match="stage sdpo"):
            check_pair_stage(model_args, training, arguments)
    else:
        check_pair_stage(model_args, training, arguments)


@pytest.mark.parametrize(
    ("model", "tuning", "is_zero3", "refused"),
    [
        ({}, {}, True, "under DeepSpeed's ZeRO-3 the host merges no adapter, whatever create_new_adapter says"),
        ({"use_unsloth": True}, {}, False, "under Unsloth the host merges no adapter"),
        ({}, {}, False, None),
        ({"adapter_name_or_path": None}, {}, True, None),
        ({}, {"ref_model": "sft-merged"}, True, None),
        ({}, {"pref_loss": "simpo"}, True, None),
        ({}, {"stage": "dpo"}, True, None),
    ],
)
def test_an_adapter_that_the_host_does_not_merge(model, tuning, is_zero3, refused):
    """It trains such an adapter on instead, and the reference is then the model without it."""
    model_args = SimpleNamespace(**{"adapter_name_or_path": ["sft"], "use_unsloth": False, **model})
    chosen = {"stage": "sdpo", "finetuning_type": "lora", "create_new_adapter": True, **tuning}
    given = model_args, SimpleNamespace(do_train=True), FinetuningArguments(**chosen), is_zero3
    if refused is None:
        check_merging(*given)
        return
    with pytest.raises(UserError, match=refused):
        check_merging(*given)


@pytest.mark.parametrize(("stage", "refused"), [(2, False), (3, True)])
def test_zero3_is_known_before_the_ranks_start(tmp_path, stage, refused):
    """By the config of DeepSpeed, which may stand in the training's own."""
    small.write_model(tmp_path / "model")
    small.write_data(tmp_path / "data")
    (tmp_path / "sft").mkdir()
    (tmp_path / "zero.json").write_text(json.dumps(zero := {"zero_optimization": {"stage": stage}}))
    on_sft = {"finetuning_type": "lora", "adapter_name_or_path": str(tmp_path / "sft"), "create_new_adapter": True}
    for deepspeed in (str(tmp_path / "zero.json"), zero):
        config = small.config(tmp_path, **on_sft, deepspeed=deepspeed)
        if refused:
            with pytest.raises(UserError, match="stage sdpo would train on from the adapter with the bare base model"):
                parse_anywhere(config)
        else:
            parse_anywhere(config)


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ({"template": "lama3"}, "template", "'lama3' is not one of the host's; did you mean llama3"),
        ({"packing": True}, "packing", "packing is not part of stage sdpo, which would ignore it"),
        ({"do_predict": True, "val_size": 2}, "do_predict", "do_predict is not part of stage sdpo"),
        ({"do_train": False}, "do_train", "do_train and do_eval are false, so there is nothing to do"),
        ({"do_eval": True}, "val_size", "nothing to evaluate on; set val_size or eval_dataset, or do_eval: false"),
        ({"eval_strategy": "steps", "val_size": 0}, "val_size", "there is nothing to evaluate on"),
        ({"add_special_tokens": "<x>"}, "add_special_tokens", "add them in SFT, or use finetuning_type: lora"),
        ({"report_to": "wandb"}, "report_to", "report_to wandb: .*pip install wandb"),
        ({"report_to": "wanb"}, "report_to", "report_to 'wanb' is unknown, expected none or some of .*tensorboard"),
        ({"use_galore": True}, None, "pip install galore_torch"),
        ({"deepspeed": "none.json"}, None, "existing deepspeed config"),
        ({"dataset": "pars"}, "dataset", "did you mean pairs. It has pairs, sft, ranked"),
        ({"resume_from_checkpoint": True}, "resume_from_checkpoint", "has no whole checkpoint"),
        ({"resume_from_checkpoint": "none"}, "resume_from_checkpoint", "none is not a whole checkpoint"),
        ({"learning_rate": "abc"}, "learning_rate", "`learning_rate` is 'abc', expected a number"),
        ({"stage": "sdop"}, "stage", "did you mean sdpo"),
        ({"pref_beta": "abc"}, "pref_beta", "expected a number"),
        *(
            ({option: "data/dataset_info.json/in"}, option, f"{option} .* be a folder, since .*info.json is a file")
            for option in ("output_dir", "tokenized_path", "cache_dir")
        ),
    ],
)
def test_settings_that_end_a_training_late_are_refused_before_it(tmp_path, monkeypatch, options, key, message):
    small.write_data(tmp_path / "data")
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        host_tuner.get_train_args(small.config(tmp_path, **options))
    assert getattr(error.value, "key", None) == key and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "refused"),
    [
        ("model_name_or_path", "saves/demo/gone", True),
        ("model_name_or_path", "./gone", True),
        ("model_name_or_path", "/gone", True),
        ("model_name_or_path", "here/gone", True),
        ("model_name_or_path", "here", False),
        ("model_name_or_path", "gpt2", False),
        ("model_name_or_path", "meta-llama/Llama-3.1-8B-Instruct", False),
        ("adapter_name_or_path", ["here", "a/b/c"], True),
        ("ref_model", "a/b/c", True),
    ],
)
def test_models_that_are_not_there(tmp_path, monkeypatch, option, value, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    named = {"model_name_or_path": "here", "adapter_name_or_path": None, "ref_model": None} | {option: value}
    arguments = SimpleNamespace(**named)
    if refused:
        with pytest.raises(UserError, match=f"{option} .* does not exist; expected a model's folder"):
            check_models(arguments, arguments)
    else:
        check_models(arguments, arguments)


def test_configs_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        read_args([str(tmp_path / "none.yaml")])
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(UserError, match="not a readable config") as error:
        read_args([str(tmp_path / "bad.yaml")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["c.yaml", "c.yml", "c.json", "c.YAML", "c", "my config.txt"])
def test_a_config_may_have_any_name(tmp_path, name):
    """The host takes other endings for flags, and cannot read JSON."""
    (tmp_path / name).write_text('{"stage": "sdpo", "seed": 3}', encoding="utf-8")
    assert read_args([str(tmp_path / name), "seed=4"]) == {"stage": "sdpo", "seed": 4}
    assert read_args(["--stage", "sdpo"]) == ["--stage", "sdpo"] and read_args([]) == []


def test_a_bare_no_is_the_strategy_no(tmp_path):
    """YAML takes it for False, in a config and in an override; other options keep what it says."""
    path = tmp_path / "config.yaml"
    path.write_text("save_strategy: no\neval_strategy: steps\nbf16: no\n", encoding="utf-8")
    args = read_args([str(path), "logging_strategy=no"])
    assert args == {"save_strategy": "no", "eval_strategy": "steps", "bf16": False, "logging_strategy": "no"}


def test_every_shipped_config_parses(monkeypatch):
    """Its keys are known, its stage is one, its data are registered; its model may be one that an earlier step writes."""
    monkeypatch.setattr("llamafactory_sdpo.host.settings.check_models", lambda *_: None)
    monkeypatch.setattr("llamafactory_sdpo.host.arguments.check_rows", lambda *_: None)
    info = (ROOT / "data" / "dataset_info.json").read_text(encoding="utf-8")
    configs = sorted(path for path in (ROOT / "examples").glob("*/*.yaml") if path.parent.name != "inference")
    assert len(configs) >= 14
    for path in configs:
        args = read_args([str(path)])
        check_keys(args)
        _, data_args, *_ = parse_anywhere(args)
        for name in data_args.dataset or []:
            assert f'"{name}"' in info
        if args.get("deepspeed"):
            assert (ROOT / args["deepspeed"]).is_file()
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# "), f"{path} does not open with what it is"


def test_flags_are_parsed_and_checked_as_a_config_is(tmp_path):
    """The same objects come of both; what is given twice is once, and no flag that nothing reads is passed over."""
    small.write_model(tmp_path / "model")
    small.write_data(tmp_path / "data")
    config = small.config(tmp_path, pref_beta=0.5, optim="adamw_torch")
    flags = [word for key, value in config.items() for word in (f"--{key}", str(value))]
    by_config, by_flags = ([part.to_dict() for part in parse_anywhere(args)[:4]] for args in (config, flags))
    assert by_flags == by_config and by_flags[3]["pref_beta"] == 0.5 and by_flags[2]["max_steps"] == 3
    with pytest.raises(UserError, match="--pref_betta 1: no such flags"):
        parse_anywhere([*flags, "--pref_betta", "1"])


def test_a_launcher_under_slurm_or_kubeflow_is_no_rank(tmp_path, monkeypatch):
    """Their variables are those of the machines; accelerate would have the launchers meet at the address of the ranks."""
    small.write_model(tmp_path / "model")
    small.write_data(tmp_path / "data")
    given = {"PMI_SIZE": "2", "PMI_RANK": "1", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    parsed = parse_anywhere(small.config(tmp_path))
    assert parsed[2].world_size == 1 and not torch.distributed.is_initialized()
    assert {name: os.environ.get(name) for name in given} == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streaming": True, "max_steps": -1}, "Please specify `max_steps` in streaming mode"),
        ({"packing": True}, "packing is not part of stage sdpo"),
        ({"do_eval": True}, "there is nothing to evaluate on"),
        ({"eval_dataset": "pairs", "val_size": 0.2}, "Cannot specify `val_size` if `eval_dataset` is not None"),
    ],
)
def test_the_hosts_checks_and_ours_come_before_the_ranks(tmp_path, options, message):
    """What a rank would refuse is refused where pairs are prepared for all of them."""
    small.write_model(tmp_path / "model")
    small.write_data(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        prepare_pairs(small.config(tmp_path, **options))


def test_ray_workers_know_the_stages():
    """A Ray worker is unpickled by the name of its class, and importing that module is what installs the stages."""
    assert host_tuner.Worker is RayWorker
    assert RayWorker.__module__ == "llamafactory_sdpo.host.install"
    assert Path(sys.modules[RayWorker.__module__].__file__).name == "install.py"
