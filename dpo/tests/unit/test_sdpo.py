"""The command `sdpo`: each of its steps is the script of that name, with the same help."""

import re
from importlib import import_module

import pytest
from typer.testing import CliRunner

from sotopia_sdpo import sdpo
from sotopia_sdpo.pairs.options import app_of
from sotopia_sdpo.places import STEPS


@pytest.mark.parametrize("script", STEPS)
def test_a_command_is_its_script(script: str) -> None:
    main = import_module(script).main
    assert sdpo.SCRIPTS[STEPS[script]] is main
    usage, *rest = CliRunner().invoke(app_of(main), ["--help"]).output.strip().splitlines()
    command, *same = CliRunner().invoke(sdpo.app, [STEPS[script], "--help"]).output.strip().splitlines()
    assert same == rest and len(rest) > 10
    assert usage.startswith(" Usage:") or "Usage:" in usage
    assert f" {STEPS[script]} " in command


def test_it_says_what_is_installed() -> None:
    done = CliRunner().invoke(sdpo.app, ["--version"])
    assert done.exit_code == 0 and re.fullmatch(r"sotopia-sdpo \S+ on sotopia \S+\n", done.output)


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDPO_HOME", str(tmp_path))
    done = CliRunner().invoke(sdpo.app, ["locate"])
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert f"{tmp_path}/negative_data.json is not there; data_filtering_negative.py writes it" in done.output


def test_without_the_training_side_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpo, "find_spec", lambda name: None)
    done = CliRunner().invoke(sdpo.app, ["train", "my.yaml"])
    assert done.exit_code == 2 and "llamafactory-sdpo, which trains and serves, is not installed" in done.output


def test_a_hosts_command_in_the_place_of_ours_is_told(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sdpo.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "sotopia").write_text("from sotopia_sdpo.cli import main\n")
    (tmp_path / "lmf").write_text("from llamafactory.cli import main\n")
    sdpo._note_hosts_commands()
    told = capsys.readouterr().err
    assert told.startswith("note: lmf is the host's own") and "install llamafactory-sdpo again" in told
    assert told.count("\n") == 1
