"""Secrets on command lines: they are taken off, handed on where nobody else looks, and arrive."""

import json
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import small
import yaml

from llamafactory_sdpo import hidden, launcher
from llamafactory_sdpo.host.names import host_parser


SECRETS = {"hf_hub_token", "ms_hub_token", "om_hub_token", "hub_token", "swanlab_api_key", "swanlab_lark_secret"}
TIMEOUT_S = 120


def test_the_hosts_secrets_are_known_and_nothing_else_is_taken_for_one():
    lists = (host_parser._TRAIN_ARGS, host_parser._INFER_ARGS)
    names = {item.name for kinds in lists for kind in kinds for item in fields(kind)}
    assert {name for name in names if hidden.name_of(f"{name}=x")} == SECRETS


@pytest.mark.parametrize(
    ("argv", "rest", "secrets"),
    [
        (["a.yaml", "hf_hub_token=s"], ["a.yaml"], ["hf_hub_token=s"]),
        (["a.yaml", "hf_hub_token=s\nt", "seed=1"], ["a.yaml", "seed=1"], ["hf_hub_token=s\nt"]),
        (["--hf_hub_token", "--x", "--seed", "1"], ["--seed", "1"], ["--hf_hub_token", "--x"]),
        (["--api-key", "api_key=x", "api_key=y"], [], ["--api-key", "api_key=x", "api_key=y"]),
        (["--api-key=s"], [], ["--api-key=s"]),
        (
            ["token", "monkey=1", "tokens=2", "output_dir=api_key=x"],
            ["token", "monkey=1", "tokens=2", "output_dir=api_key=x"],
            [],
        ),
        (["--api-key"], [], ["--api-key"]),
        (
            ["a.b.api_key=s", "--vllm.api-key", "s", "a.key.b=1"],
            ["a.key.b=1"],
            ["a.b.api_key=s", "--vllm.api-key", "s"],
        ),
        (
            ['c={"a": [{"x": 1, "api_key": "s"}]}', "b={'token': 1}"],
            [],
            ['c={"a": [{"x": 1, "api_key": "s"}]}', "b={'token': 1}"],
        ),
        (["--vllm_config", '{"api_key": "s"}', "seed=1"], ["seed=1"], ["--vllm_config", '{"api_key": "s"}']),
        (["vllm_config={api_key: s}", 'c={"monkey": 1}'], ['c={"monkey": 1}'], ["vllm_config={api_key: s}"]),
        (['d={"say": "the key: is"}', "[a, token]"], ['d={"say": "the key: is"}', "[a, token]"], []),
    ],
)
def test_what_is_taken_off(argv, rest, secrets):
    assert hidden.split(argv) == (rest, secrets)


def test_a_command_that_shows_a_secret_starts_anew(tmp_path):
    """The same process, whose command line no longer has it; it says so once."""
    (tmp_path / "sdpo.yaml").write_text(yaml.safe_dump(small.config(tmp_path)), encoding="utf-8")
    command = [sys.executable, "-m", "llamafactory_sdpo.train", "sdpo.yaml", "hf_hub_token=s3cret", "seed=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    shown, end = "s3cret", time.monotonic() + TIMEOUT_S
    # It is empty for a moment, while the new program takes the place of the old one.
    while (not shown or "s3cret" in shown) and process.poll() is None and time.monotonic() < end:
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.kill()
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert "seed=1" in shown and "s3cret" not in shown
    told = "hf_hub_token on the command line can be seen by others (ps, history); set HF_TOKEN instead"
    assert said.splitlines().count(told) == 1 and "s3cret" not in said


def test_what_is_handed_on_arrives_once(monkeypatch):
    monkeypatch.setenv(hidden.VARIABLE, json.dumps(["hf_hub_token=s3cret"]))
    assert hidden.whole(["a.yaml"], "m") == ["a.yaml", "hf_hub_token=s3cret"]
    assert hidden.whole(["a.yaml"], "m") == ["a.yaml"]


def test_ranks_are_started_without_it(monkeypatch):
    started = []

    class Ranks:
        def __init__(self, command, env):
            started.append((command, env))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def wait(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ranks)
    assert launcher._torchrun(["a.yaml", "hf_hub_token=s3cret", "seed=1"]) == 0
    ((command, env),) = started
    assert command[-2:] == ["a.yaml", "seed=1"] and "s3cret" not in " ".join(command)
    monkeypatch.setattr(os, "environ", env)
    assert hidden.whole(command[-2:], "m") == ["a.yaml", "seed=1", "hf_hub_token=s3cret"]
