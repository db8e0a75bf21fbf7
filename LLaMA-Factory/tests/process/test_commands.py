"""The commands as users type them: `bash train.sh`, `llamafactory-cli train`, in one process and in two ranks."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small
import yaml
from conftest import ROOT


TIMEOUT_S = 400
CLI = [sys.executable, "-m", "llamafactory_sdpo.cli"]
TWO_RANKS = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a space in its name, as users have."""
    folder = tmp_path_factory.mktemp("commands") / "my runs"
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    (folder / "sdpo.yaml").write_text(yaml.safe_dump(small.config(folder)), encoding="utf-8")
    return folder


def run(command: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def train_sh(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`bash train.sh` from the folder of the user, with the path of the script from there."""
    return run(["bash", str(ROOT.parent / "train.sh"), *arguments], home, **env)


def done(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return result


@pytest.fixture(scope="module")
def reference(home) -> list[float]:
    """The losses of three steps of two pairs in one process."""
    result = done(train_sh(home, "sdpo.yaml", "output_dir=one out"))
    assert f"model: {home}/one out" in result.stdout
    return small.losses(home / "one out")


def test_the_same_command_gives_the_same_losses(home, reference):
    """From the other train.sh, and into the same folder."""
    done(run(["bash", str(ROOT / "train.sh"), "sdpo.yaml", "output_dir=one out"], home))
    assert small.losses(home / "one out") == reference
    assert len(reference) == 3


def test_a_dataset_by_its_path_in_another_form_is_the_same_training(home, reference):
    """From the user's folder, with no entry for it, in one process and two ranks; a host's stage reads entries only."""
    turns = {"human": "user", "gpt": "assistant"}
    rows = json.loads((home / "data" / "pairs.json").read_text(encoding="utf-8"))
    read = [[{"role": turns[turn["from"]], "content": turn["value"]} for turn in row["conversations"]] for row in rows]
    lines = [json.dumps({"rejected": a, "chosen": b}) for a, b in zip(read[::2], read[1::2], strict=True)]
    (home / "of others").mkdir()
    (home / "of others" / "whole.jsonl").write_text("\n".join(lines), encoding="utf-8")
    by_path = "dataset=of others/whole.jsonl"
    result = done(train_sh(home, "sdpo.yaml", by_path, "output_dir=by path"))
    assert "whole.jsonl: TRL's preference form, whole dialogues in chosen and rejected\n" in result.stdout
    assert small.losses(home / "by path") == reference
    done(train_sh(home, "sdpo.yaml", by_path, "output_dir=by ranks", "per_device_train_batch_size=1", **TWO_RANKS))
    assert small.losses(home / "by ranks") == pytest.approx(reference, rel=1e-5)
    refused = train_sh(home, "sdpo.yaml", by_path, "stage=sft", "output_dir=none")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert (
        "whole.jsonl is not in dataset_info.json, as it must be for this stage; sdpo, eto, dmpo read it"
        in refused.stderr
    )
    assert not (home / "none").exists()


def test_two_ranks_of_one_pair_are_one_rank_of_two(home, reference):
    options = ["output_dir=two", "per_device_train_batch_size=1", "val_size=3", "do_eval=true"]
    result = done(train_sh(home, "sdpo.yaml", *options, "dataset=ranked", **TWO_RANKS))
    alone = done(train_sh(home, "sdpo.yaml", "output_dir=alone", "val_size=3", "do_eval=true"))
    assert small.losses(home / "two") == pytest.approx(small.losses(home / "alone"), rel=1e-5)
    # Three pairs on two ranks: the last batch is padded by the host, and counted once.
    results = [json.loads((home / name / "eval_results.json").read_text()) for name in ("two", "alone")]
    assert results[0]["eval_pairs"] == results[1]["eval_pairs"] == 3
    for name in ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-4)
    assert "held-out reward accuracy" in result.stdout and "held-out reward accuracy" in alone.stdout
    # Neither rank writes a bar to a file, or a dict; one of them writes the steps.
    for ran in (result, alone):
        assert re.findall(r"^(step \d)/3  loss .*  acc .*  margin .*  lr .* left$", ran.stdout, re.MULTILINE) == [
            *("step 1", "step 2", "step 3"),
        ]
        assert len(re.findall(r"^eval 3/3  .*  3 pairs$", ran.stdout, re.MULTILINE)) == 1
        assert "\r" not in ran.stdout + ran.stderr and "{'" not in ran.stdout


@pytest.mark.skipif(" " in sys.prefix, reason="PyTorch cannot compile DeepSpeed's operator below a path with a space")
@pytest.mark.parametrize(
    ("zero", "command"), [(2, [*CLI, "train"]), (3, ["bash", str(ROOT.parent / "train.sh")])], ids=["zero2", "zero3"]
)
def test_deepspeed_with_two_ranks(home, reference, zero, command):
    """Through `llamafactory-cli train` as well, which reads paths against the folder it is started in."""
    config = ROOT / "examples" / "deepspeed" / f"ds_z{zero}_config.json"
    options = [f"output_dir=zero{zero}", "per_device_train_batch_size=1", f"deepspeed={config}"]
    done(run([*command, "sdpo.yaml", *options], home, **TWO_RANKS))
    assert small.losses(home / f"zero{zero}") == pytest.approx(reference, rel=1e-4)


@pytest.mark.skipif(
    " " in sys.executable, reason="PyTorch cannot compile DeepSpeed's operator below a path with a space"
)
def test_two_sharded_ranks_make_the_table_that_one_reads(home):
    """LoRA, whose reference is the policy in its engine with the adapter off; then one process looks the values up."""
    config = ROOT / "examples" / "deepspeed" / "ds_z3_config.json"
    options = ["finetuning_type=lora", f"cache_dir={home / 'cache'}"]
    sharded = ["output_dir=sharded", "per_device_train_batch_size=1", f"deepspeed={config}"]
    done(train_sh(home, "sdpo.yaml", *options, *sharded, **TWO_RANKS))
    (table,) = (home / "cache" / "sdpo-reference").iterdir()
    written = table.stat().st_mtime_ns
    result = done(train_sh(home, "sdpo.yaml", *options, "output_dir=lora"))
    assert table.stat().st_mtime_ns == written and "\nreference " not in result.stdout
    assert small.losses(home / "sharded") == pytest.approx(small.losses(home / "lora"), rel=1e-4)


@pytest.mark.parametrize(
    ("env", "break_data", "options", "message"),
    [
        ({}, lambda rows: rows[:-1], [], "pairs.json has 23 records, an odd number: record 22 has no partner"),
        ({}, None, ["learnin_rate=1"], "unknown key 'learnin_rate'; did you mean learning_rate?"),
        (
            TWO_RANKS,
            None,
            ["cutoff_len=16"],
            "longer than cutoff_len 16, as every pair of the train; raise cutoff_len",
        ),
    ],
    ids=["data", "key", "two ranks"],
)
def test_wrong_input_is_one_line_and_exit_code_2(home, tmp_path, env, break_data, options, message):
    small.write_data(tmp_path / "data")
    if break_data:
        path = tmp_path / "data" / "pairs.json"
        path.write_text(json.dumps(break_data(json.loads(path.read_text()))), encoding="utf-8")
    output = tmp_path / "out"
    result = train_sh(home, "sdpo.yaml", f"output_dir={output}", f"dataset_dir={tmp_path / 'data'}", *options, **env)
    assert result.returncode == 2, result.stderr[-4000:]
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    # What the command line gave is not blamed on the config.
    place = "command line" if "learnin_rate=1" in options else home / "sdpo.yaml"
    assert line.startswith(f"error: {place}: ") and message in line
    assert "Traceback" not in result.stderr
    assert "torchrun" not in result.stderr
    assert not output.exists()


def test_an_error_in_a_rank_comes_back_as_its_exit_code(home):
    """What only a rank can find out (here: a scheduler that does not exist) is told by the launcher, once."""
    result = run([*CLI, "train", "sdpo.yaml", "lr_scheduler_type=wavy"], home, **TWO_RANKS)
    assert result.returncode == 2, result.stderr[-4000:]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "wavy" in lines[0]


@pytest.mark.parametrize(("option", "code"), [("lr_scheduler_type=wavy", 2), ("max_steps=1", 0)])
def test_a_rank_that_is_done_cannot_be_aborted_while_python_ends(home, option, code):
    """What would abort it there, as threads of gloo do at times, has no chance to; exit handlers still run."""
    script = (
        "import atexit, os, runpy, sys\n"
        "class Bomb:\n"
        "    def __del__(self, abort=os.abort): abort()\n"
        "bomb = Bomb()\n"
        "sys.argv = ['worker', 'sdpo.yaml', 'output_dir=rank', sys.argv[1]]\n"
        "from llamafactory_sdpo import worker\n"
        "leaving = worker.Exit()\n"
        "atexit.register(print, 'exit handlers ran')\n"
        "leaving.code = worker.main()\n"
    )
    result = run([sys.executable, "-c", script, option], home)
    assert result.returncode == code, result.stderr[-4000:]
    assert result.stdout.endswith("exit handlers ran\n")


def test_interrupting_ends_every_process(home):
    """Ctrl-C goes to the whole group, as from a terminal; the exit code is 130 and nothing is left running."""
    command = [*CLI, "train", "sdpo.yaml", "max_steps=100000", "output_dir=endless", "per_device_train_batch_size=1"]
    log = home / "endless.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=os.environ | TWO_RANKS,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it may be ignored where the tests run
        )
        deadline = time.monotonic() + TIMEOUT_S
        while "\nstep " not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.5)
        assert process.poll() is None, log.read_text()[-4000:]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
    time.sleep(1)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_fresh_process_that_unpickles_the_ray_worker_knows_our_stages(home):
    """As a Ray actor would: it gets the class by name and calls it with the config; here the config is refused."""
    script = (
        "import pickle, sys\n"
        "worker = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "worker._training_function(object.__new__(worker), {'args': {'stage': 'sdpo', 'segment_scope': 'all',"
        " 'model_name_or_path': 'gpt2', 'output_dir': 'x'}, 'callbacks': []})\n"
    )

    from llamafactory_sdpo.host.install import install
    from llamafactory_sdpo.host.names import host_tuner

    install()
    pickled = pickle.dumps(host_tuner.Worker).hex()
    result = run([sys.executable, "-c", script, pickled], home)
    assert "OptionError: `segment_scope` is 'all', expected one of segment, turn" in result.stderr


def test_help_shows_our_options(home):
    shown = done(run([*CLI, "train", "--help"], home)).stdout
    for option in (
        "--segment_scope {segment,turn}",
        "--dmpo_gamma",
        "--overlong {shorten,skip,stop}",
        "--bad_pairs",
        "--no_reference_once",
    ):
        assert option in shown
    assert "sdpo,eto,dmpo" in shown
    assert "key segment" in shown


def test_quick_answers(home):
    assert "key=value" in done(train_sh(home, "--help")).stdout
    # Quick is what loads neither the host nor PyTorch.
    loads = "import sys; from llamafactory_sdpo import train; sys.argv = ['train', '--help']; train.main()"
    heavy = "print({'torch', 'llamafactory', 'transformers'} & set(sys.modules))"
    assert done(run([sys.executable, "-c", f"{loads}; {heavy}"], home)).stdout.endswith("set()\n")
    assert "version 0.9.5" in done(run([*CLI, "version"], home)).stdout
    result = train_sh(home, "none.yaml")
    assert (result.returncode, result.stderr) == (2, f"error: {home}/none.yaml does not exist\n")


def test_the_console_scripts_are_ours():
    for name in ("llamafactory-cli", "lmf"):
        assert "llamafactory_sdpo" in (Path(sys.executable).parent / name).read_text(encoding="utf-8")
