"""`bash train.sh`: which config, which paths, what is built, what is reported; and how ranks are started."""

import json
import sys

import pytest
from conftest import ROOT

from llamafactory_sdpo import train
from llamafactory_sdpo.errors import UserError, run_at_edge


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my config.yaml"
    path.write_text("output_dir: saves/mine\n", encoding="utf-8")
    return path


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
    assert train.wilson_interval(share, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize("count", range(1, 200))
def test_wilson_interval_stays_between_0_and_1(count):
    low, high = train.wilson_interval(0.0, count)
    assert f"{low:.3f}" == "0.000" and 0 < high < 1
    low, high = train.wilson_interval(1.0, count)
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


# ---- exit codes and ranks --------------------------------------------------------------------------------------------


def raises(error):
    raise error


def test_exit_codes(capsys):
    assert run_at_edge(lambda: None) == 0
    assert run_at_edge(lambda: 3) == 3
    assert run_at_edge(lambda: raises(UserError("x.json record 1: y; do z")), prefix="c.yaml: ") == 2
    assert capsys.readouterr().err == "error: c.yaml: x.json record 1: y; do z\n"
    assert run_at_edge(lambda: raises(KeyboardInterrupt())) == 130
    with pytest.raises(RuntimeError):
        run_at_edge(lambda: raises(RuntimeError("a bug keeps its traceback")))


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
