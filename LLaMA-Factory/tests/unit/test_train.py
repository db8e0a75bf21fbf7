"""`bash train.sh`: which config, which paths, what is built, what is reported; and how ranks are started."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from llamafactory_sdpo import train
from llamafactory_sdpo.errors import OptionError, TrainingFailed, UserError, place_of, run_at_edge
from llamafactory_sdpo.screen.results import ACCURACY, held_out_lines, wilson_interval


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my config.yaml"
    path.write_text("output_dir: saves/mine\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("config", "model", "is_demo"),
    [
        (train.DEMO_CONFIG, "saves/demo/base", True),
        (train.DEMO_CONFIG, str(ROOT / "saves" / "demo" / "sft"), True),
        # A real model, which has the GPUs and the threads that there are.
        (train.DEMO_CONFIG, "smollm2", False),
        (train.DEMO_CONFIG, "meta-llama/Llama-3.1-8B-Instruct", False),
        (train.DEMO_CONFIG, "/models/mine", False),
        (train.FULL_CONFIG, "saves/demo/base", False),
    ],
)
def test_what_is_the_demo(config, model, is_demo):
    assert train.is_of_demo(config, {"model_name_or_path": model}) is is_demo


def test_datasets_that_are_paths_are_the_users(config, tmp_path):
    """A name and a name of the hub stay; a folder counts as a path if it is there, or is written as one."""
    (tmp_path / "my" / "pairs").mkdir(parents=True)
    given = "mine, a b.jsonl,my/pairs,org/name,./gone,~/x.parquet,/abs/y"
    (option, other) = train.resolve(["my config.yaml", f"dataset={given}", "eval_dataset=z.csv"], tmp_path).overrides
    home = Path("~").expanduser()
    assert option == (
        f"dataset=mine,{tmp_path}/a b.jsonl,{tmp_path}/my/pairs,org/name,{tmp_path}/gone,{home}/x.parquet,/abs/y"
    )
    assert other == f"eval_dataset={tmp_path}/z.csv"
    assert train.resolve(["my config.yaml", "eval_dataset="], tmp_path).overrides == ["eval_dataset="]


def test_paths_of_the_command_line_are_the_users(config, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    paths = train.resolve(
        [
            "my config.yaml",
            "output_dir=out",
            "model_name_or_path=model",
            "adapter_name_or_path=model,other",
            "ref_model=meta-llama/Llama-3.1-8B-Instruct",
            "deepspeed=",
            "seed=1",
            "tokenized_path=/abs/x",
        ],
        tmp_path,
    )
    assert paths.config == config
    assert paths.overrides == [
        f"output_dir={tmp_path}/out",
        f"model_name_or_path={tmp_path}/model",
        f"adapter_name_or_path={tmp_path}/model,{tmp_path}/other",
        "ref_model=meta-llama/Llama-3.1-8B-Instruct",
        "deepspeed=",
        "seed=1",
        "tokenized_path=/abs/x",
    ]


def test_wrong_command_lines(tmp_path, config):
    with pytest.raises(UserError, match="none.yaml does not exist"):
        train.resolve(["none.yaml"], tmp_path)
    with pytest.raises(UserError, match="did you mean .*LLaMA-Factory/examples/demo/sdpo.yaml"):
        train.resolve(["examples/demo/sdpo.yaml"], tmp_path)
    with pytest.raises(UserError, match="'more.yaml': expected key=value"):
        train.resolve(["my config.yaml", "more.yaml"], tmp_path)
    config.write_text("- a\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no key: value lines"):
        train.merged_config(train.Paths(config, []))
    config.write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match="my config.yaml: not a readable config: while parsing"):
        train.merged_config(train.Paths(config, []))


def test_the_full_config_is_chosen_when_all_is_there(tmp_path, monkeypatch):
    """Model, then data, then memory is missing; with all three the full config is taken."""
    import torch

    full = tmp_path / "examples" / "train_full" / "sdpo.yaml"
    full.parent.mkdir(parents=True)
    full.write_text("model_name_or_path: saves/sft\ndataset_dir: data\ndataset: pairs\n", encoding="utf-8")
    monkeypatch.setattr(train, "ROOT", tmp_path)
    monkeypatch.setattr(train, "FULL_CONFIG", full)
    assert train.default_config() == (train.DEMO_CONFIG, "the model of sdpo.yaml, saves/sft, is not there")
    (tmp_path / "saves" / "sft").mkdir(parents=True)
    (tmp_path / "saves" / "sft" / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"pairs": {"file_name": "p.json"}}', encoding="utf-8")
    assert "p.json, are not there" in train.default_config()[1]
    (tmp_path / "data" / "p.json").touch()
    assert train.default_config() == (
        train.DEMO_CONFIG,
        "there are 0 GiB of GPU memory, sdpo.yaml takes about 0",
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: type("P", (), {"total_memory": 5000})(), raising=False
    )
    assert train.default_config()[0] == full


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    # Wilson's interval for 8 of 10: (0.8 + 0.192073 ± 1.959964 * sqrt(0.016 + 0.00960365)) / 1.384146
    [(0.8, 10, 0.4902, 0.9433), (0.5, 100, 0.4038, 0.5962), (1.0, 20, 0.8389, 1.0)],
)
def test_wilson_interval(share, count, low, high):
    assert wilson_interval(share, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize("count", range(1, 200))
def test_wilson_interval_stays_between_0_and_1(count):
    low, high = wilson_interval(0.0, count)
    assert f"{low:.3f}" == "0.000" and 0 < high < 1
    low, high = wilson_interval(1.0, count)
    assert f"{high:.3f}" == "1.000" and high <= 1 and 0 < low < 1


def test_the_report(tmp_path, capsys):
    (tmp_path / "training_loss.png").touch()
    results = {"eval_loss": 0.5, "eval_pairs": 10, "eval_rewards/accuracies": 0.8, "eval_rewards/margins": 0.25}
    (tmp_path / "eval_results.json").write_text(json.dumps(results), encoding="utf-8")
    train.report({"output_dir": str(tmp_path)}, is_demo=False)
    assert capsys.readouterr().out.splitlines() == [
        "held-out reward accuracy 0.800 (95 % interval 0.490 to 0.943, 10 pairs), margin 0.250, loss 0.500",
        f"loss figure: {tmp_path}/training_loss.png",
        f"model: {tmp_path}",
    ]


def test_the_report_of_several_sets_and_of_the_hosts_dpo(tmp_path, capsys):
    """The host's own DPO does not count its pairs, so its accuracy has no interval."""
    two = {f"eval_{name}_{key}": 0.5 for name in ("a", "b_c") for key in (ACCURACY, "rewards/margins", "loss")}
    (tmp_path / train.EVALUATION).write_text(json.dumps(two | {"eval_a_pairs": 100}), encoding="utf-8")
    train.report({"output_dir": str(tmp_path)}, is_demo=False)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "held-out reward accuracy on a 0.500 (95 % interval 0.404 to 0.596, 100 pairs), margin 0.500, loss 0.500",
        "held-out reward accuracy on b_c 0.500, margin 0.500, loss 0.500",
    ]


def test_the_report_of_an_evaluation_alone_without_a_reference(tmp_path, capsys):
    """The host then takes the rewards out of the results, and the pairs were evaluated all the same."""
    (tmp_path / train.EVALUATION).write_text(json.dumps({"eval_loss": 0.69, "eval_pairs": 6}), encoding="utf-8")
    train.report({"stage": "sdpo", "val_size": 6, "do_train": False, "output_dir": str(tmp_path)}, is_demo=False)
    assert capsys.readouterr().out.splitlines() == [
        "held-out pairs have no rewards, since the model was its own reference; name one as ref_model",
        f"results: {tmp_path}",
    ]


def test_a_small_negative_margin_has_no_sign(tmp_path):
    results = {"eval_loss": 0.5, "eval_rewards/accuracies": 0.5, "eval_rewards/margins": -0.0004}
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert held_out_lines(tmp_path / "results.json") == ["held-out reward accuracy 0.500, margin 0.000, loss 0.500"]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"stage": "sdpo"}, "no pairs held out"),
        ({"stage": "eto", "val_size": 0.25}, "held-out pairs were not evaluated (do_eval: false)"),
        ({"stage": "dmpo", "eval_dataset": "pairs"}, "held-out pairs were not evaluated (do_eval: false)"),
        ({"stage": "sft"}, None),
    ],
)
def test_results_of_an_earlier_run_are_not_reported(tmp_path, capsys, config, line):
    for name in train.RESULTS:
        (tmp_path / name).write_text('{"eval_rewards/accuracies": 0.9}', encoding="utf-8")
    earlier = train.results_in(tmp_path)
    train.report(config | {"output_dir": str(tmp_path), "do_train": True}, False, earlier)
    assert capsys.readouterr().out.splitlines() == [
        *([line] if line else []),
        f"model: {tmp_path}",
        "of an earlier run, in the same folder: eval_results.json, training_loss.png, training_curves.png",
    ]
    # Written again with the same content: this run's.
    (tmp_path / train.FIGURE).unlink()
    (tmp_path / train.FIGURE).touch()
    train.report(config | {"output_dir": str(tmp_path), "do_train": False}, False, earlier)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        f"loss figure: {tmp_path}/training_loss.png",
        f"results: {tmp_path}",
        "of an earlier run, in the same folder: eval_results.json, training_curves.png",
    ]
    (tmp_path / train.CURVES).unlink()
    (tmp_path / train.CURVES).touch()
    train.report(config | {"output_dir": str(tmp_path)}, False, earlier)
    assert f"figure: {tmp_path}/training_curves.png" in capsys.readouterr().out.splitlines()


def test_the_data_of_the_full_config_follow_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(bytes(10))
    config = {"model_name_or_path": str(tmp_path), "dataset_dir": "data", "dataset": "preference_data"}
    monkeypatch.setattr(train, "read_config", lambda path: config)
    assert f"{tmp_path}/preference_data_auto.json, are not there" in train.default_config()[1]


# ---- exit codes and ranks --------------------------------------------------------------------------------------------


def raises(error):
    raise error


def test_exit_codes(capsys):
    assert run_at_edge(lambda: None) == 0
    assert run_at_edge(lambda: 3) == 3
    assert run_at_edge(lambda: raises(UserError("x.json record 1: y; do z")), prefix="c.yaml: ") == 2
    assert capsys.readouterr().err == "error: c.yaml: x.json record 1: y; do z\n"
    assert run_at_edge(lambda: raises(TrainingFailed("step 2: x"))) == 1
    assert capsys.readouterr().err == "\nerror: step 2: x\n"
    assert run_at_edge(lambda: raises(KeyboardInterrupt())) == 130
    with pytest.raises(RuntimeError):
        run_at_edge(lambda: raises(RuntimeError("a bug keeps its traceback")))


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OptionError("seed", "x"), "command line"),
        (OptionError("vllm_config", "x"), "command line"),
        (OptionError("dataset", "x"), "c.yaml"),
        (UserError("x"), "c.yaml"),
    ],
)
def test_where_a_wrong_value_was_given(error, where):
    assert place_of(error, "c.yaml", ["seed=1", "vllm_config.x=2"]) == where


@pytest.mark.parametrize("error", [OptionError("seed", "x"), UserError("x"), TrainingFailed("x")])
def test_the_error_of_a_rank_is_raised_by_the_launcher(tmp_path, monkeypatch, error):
    from llamafactory_sdpo import launcher, worker

    target = tmp_path / "error.json"
    monkeypatch.setenv("SDPO_EXIT_FILE", str(target))
    monkeypatch.setattr(worker.sys, "argv", ["worker", "c.yaml"])
    monkeypatch.setattr("llamafactory_sdpo.host.names.host_tuner.run_exp", lambda args: raises(error))
    monkeypatch.setattr("llamafactory_sdpo.host.arguments.read_args", lambda argv: {})
    assert worker.main() == (1 if isinstance(error, TrainingFailed) else 2)
    with pytest.raises(type(error), match="^x$") as found:
        launcher._raise_error(json.loads(target.read_text(encoding="utf-8")))
    assert getattr(found.value, "key", None) == getattr(error, "key", None)


@pytest.mark.parametrize("code", [0, 1])
def test_an_error_before_a_new_start_of_the_ranks_is_none_of_a_training_that_ended_well(monkeypatch, code):
    """With MAX_RESTARTS torchrun starts all ranks anew; what the first ones left is there still."""
    from llamafactory_sdpo import launcher

    class Ranks(subprocess.Popen):
        def __init__(self, command, env):
            left = json.dumps({"message": "the disk is full", "code": 1, "key": ""})
            Path(env["SDPO_EXIT_FILE"]).write_text(left, encoding="utf-8")
            super().__init__([sys.executable, "-c", f"raise SystemExit({code})"])

    monkeypatch.setattr(launcher.subprocess, "Popen", Ranks)
    monkeypatch.setattr(launcher.signal, "signal", lambda *_: None)
    if code:
        with pytest.raises(TrainingFailed, match="the disk is full"):
            launcher._torchrun(["c.yaml"])
    else:
        assert launcher._torchrun(["c.yaml"]) == 0


def test_the_command_of_the_ranks():
    from llamafactory_sdpo.launcher import torchrun_command

    argv = ["/a b/c.yaml", "output_dir=/d e"]
    worker = ["-m", "llamafactory_sdpo.worker", *argv]
    start = [sys.executable, "-m", "torch.distributed.run"]
    env = {"NPROC_PER_NODE": "8", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    fixed = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "10.0.0.1", "--master-port", "29500"]
    assert torchrun_command(argv, env) == [*start, "--nproc-per-node", "8", *fixed, *worker]
    elastic = env | {"RDZV_ID": "job", "MIN_NNODES": "1", "MAX_NNODES": "4", "MAX_RESTARTS": "3"}
    fixed = ["--nnodes", "1:4", "--rdzv-id", "job", "--rdzv-backend", "c10d"]
    fixed += ["--rdzv-endpoint", "10.0.0.1:29500", "--max-restarts", "3"]
    assert torchrun_command(argv, elastic) == [*start, "--nproc-per-node", "8", *fixed, *worker]
    alone = torchrun_command(argv, {})
    assert alone[3:7] == ["--nproc-per-node", "1", "--nnodes", "1"]
    assert int(alone[alone.index("--master-port") + 1]) > 0


def test_the_demo_is_where_train_sh_looks_for_it():
    assert train.ROOT == ROOT and train.DEMO_CONFIG.is_file() and train.FULL_CONFIG.is_file()
