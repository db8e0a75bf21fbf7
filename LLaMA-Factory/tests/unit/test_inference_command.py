"""`bash inference.sh` up to the moment a server is started: what it builds, refuses and says."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from llamafactory_sdpo import inference
from llamafactory_sdpo.errors import UserError
from llamafactory_sdpo.host.serving import load_template
from llamafactory_sdpo.serving import config as serving_config
from llamafactory_sdpo.serving import vllm


DEMO = ROOT / "examples" / "inference" / "demo_vllm.yaml"


def run(folder, *argv):
    command = [sys.executable, "-m", "llamafactory_sdpo.inference", *map(str, argv)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def expect_line(done, message):
    """Exit code 2 and one line on stderr."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_mistakes_are_one_line_before_anything_is_loaded(tmp_path):
    expect_line(run(tmp_path, "none.yaml"), "none.yaml does not exist")
    expect_line(run(tmp_path, DEMO, "tempalte=llama3"), "unknown key 'tempalte' for infer_backend vllm; did you mean")
    expect_line(run(tmp_path, DEMO, "model_name_or_path=./mine"), "model_name_or_path ./mine does not exist")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(tmp_path, DEMO, f"model_name_or_path={tmp_path}", f"port={port}")
    expect_line(done, f"port {port} of 127.0.0.1: address already in use")


def test_items_and_options_come_in_any_order(tmp_path):
    """The secrets are handed on behind the config, an option between it and an item."""
    done = run(tmp_path, "none.yaml", "--api-key", "k3y", "hf_hub_token=t0ken")
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == f"error: {tmp_path}/none.yaml does not exist"
    assert "k3y" not in done.stderr and "t0ken" not in done.stderr


def test_without_the_default_configs_model_the_demo_is_named(tmp_path, monkeypatch):
    """But not where something else is wrong."""
    config = tmp_path / "llama3_vllm.yaml"
    config.write_text(f"model_name_or_path: {tmp_path}/none\ntemplate: llama3\n", encoding="utf-8")
    monkeypatch.setattr(inference, "DEFAULT_CONFIG", config)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="none does not exist; .*; the demo: bash inference.sh .*demo_vllm.yaml"):
        inference.serve([], None)
    with pytest.raises(UserError, match="port: Input should be less than 65536, found 70000$"):
        inference.serve(["port=70000"], None)


def test_a_template_that_the_host_does_not_know():
    with pytest.raises(UserError, match="template 'llama33' is not one of the host's; did you mean llama3?"):
        load_template({"model_name_or_path": "m", "template": "llama33", "infer_backend": "huggingface"})


def test_a_key_that_the_hosts_engine_does_not_know():
    args = {"model_name_or_path": "m", "template": "llama3", "infer_backend": "huggingface", "flash_atn": "auto"}
    with pytest.raises(UserError, match="unknown key 'flash_atn'; did you mean flash_attn"):
        load_template(args)


def test_a_package_that_the_hosts_engine_lacks_is_one_line():
    args = {"model_name_or_path": "m", "template": "llama3", "infer_backend": "huggingface", "use_unsloth": True}
    with pytest.raises(UserError, match="unsloth.*pip install unsloth"):
        load_template(args)


@pytest.mark.parametrize("name", ["demo_vllm", "demo_hf", "demo_lora_vllm"])
def test_the_demos_models_are_trained_if_they_are_missing(tmp_path, monkeypatch, name):
    """Every demo config serves what a demo config of training writes, and only what is missing is trained."""
    trained = []

    def train(path):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        trained.append(config["output_dir"])
        (tmp_path / config["output_dir"]).mkdir(parents=True)
        (tmp_path / config["output_dir"] / "tokenizer.json").write_text("{}", encoding="utf-8")
        return 0

    monkeypatch.setattr(inference, "ROOT", tmp_path)
    monkeypatch.setattr(inference, "train", train)
    config = serving_config.load(ROOT / "examples" / "inference" / f"{name}.yaml", [])
    if config.model_name_or_path == "saves/demo/base":
        shutil.copytree(ROOT / "data", tmp_path / "data")
    inference.ensure_demo(config)
    served = [config.model_name_or_path, *(stack[-1] for stack in config.adapter_name_or_path.values())]
    assert sorted(trained) == sorted(set(served) - {"saves/demo/base"}) and trained
    assert all((tmp_path / folder).is_dir() for folder in served)
    trained.clear()
    inference.ensure_demo(config)
    assert not trained


def test_a_training_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "ROOT", tmp_path)
    monkeypatch.setattr(inference, "train", lambda path: 1)
    with pytest.raises(UserError, match="demo/sdpo.yaml ended with exit code 1"):
        inference.ensure_demo(serving_config.load(DEMO, []))


def test_what_is_announced(tmp_path, capsys):
    keys = ["replicas=2", "host=0.0.0.0", "port=9000", "api_key=s3cret", "adapter_name_or_path=saves/x/late"]
    inference.announce(serving_config.load(DEMO, keys))
    told = capsys.readouterr().out.splitlines()
    urls = "http://127.0.0.1:9000/v1/,http://127.0.0.1:9001/v1/"
    assert told[:2] == [f"serving custom/late@{urls}", f"serving custom/sdpo@{urls}"]
    assert f"CUSTOM_API_KEY=... sotopia benchmark --models custom/late@{urls} ..." in told[2]
    assert "s3cret" not in " ".join(told)
    assert [inference.reachable(host) for host in ("::", "::1", "10.0.0.5")] == ["127.0.0.1", "[::1]", "10.0.0.5"]


def test_vllm_is_taken_from_where_the_user_names_it(monkeypatch):
    """This interpreter has no vLLM, so it is refused by the name of the variable."""
    monkeypatch.setenv("SDPO_VLLM_PYTHON", sys.executable)
    with pytest.raises(UserError, match="SDPO_VLLM_PYTHON .* has no vLLM; unset it, or install vllm there"):
        vllm.find(ROOT.parent / "setup.sh")


def test_help_and_counters(tmp_path):
    assert "inference/llama3_vllm.yaml" in run(tmp_path, "--help").stdout
    expect_line(run(tmp_path, "--stats", "http://127.0.0.1:9/v1"), "expected the address of a vLLM server")


def test_the_key_is_not_written_for_the_hosts_server(tmp_path, monkeypatch):
    loaded = type("Loaded", (), {"encoder": None})()
    monkeypatch.setattr(inference, "STATE", tmp_path)
    monkeypatch.setattr("llamafactory_sdpo.serving.prompting.load", lambda config: loaded)
    config = serving_config.load(DEMO, ["infer_backend=huggingface", "api_key=s3cret", "replicas=2"])
    started = inference.host_servers(config)
    assert [command.url for command in started.commands] == ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]
    written = (tmp_path / "8000" / "config.json").read_text(encoding="utf-8")
    assert "s3cret" not in written and serving_config.ServingConfig(**json.loads(written)).template == "llama3"
    assert started.commands[0].env["API_KEY"] == "s3cret" and "s3cret" not in " ".join(started.commands[0].argv)


@pytest.mark.parametrize(
    "given", [["--api-key", "s3cret"], ["api_key=s3cret"], ["port=1", "api_key=old", "api_key=s3cret"]]
)
def test_a_key_of_the_command_line_is_taken_off_it(monkeypatch, capsys, given):
    """The process starts anew with the key in its environment, and says what to do instead; what else was given stays."""
    started = []
    monkeypatch.setattr(os, "execve", lambda path, argv, env: started.append((argv, env)) or sys.exit(0))
    monkeypatch.setattr(sys, "argv", ["inference.sh", str(DEMO), *given])
    with pytest.raises(SystemExit):
        inference.main()
    ((argv, env),) = started
    assert argv[1:] == ["-m", "llamafactory_sdpo.inference", str(DEMO), *(["port=1"] if "port=1" in given else [])]
    assert "set API_KEY instead" in capsys.readouterr().err
    served = []
    monkeypatch.setattr(inference, "serve", lambda items, key: served.append((items, key)))
    monkeypatch.setattr(sys, "argv", ["inference.sh", *argv[3:]])
    monkeypatch.setattr(os, "environ", env)
    assert inference.main() == 0
    assert served == [(argv[3:], "s3cret")] and "s3cret" not in env.values()
