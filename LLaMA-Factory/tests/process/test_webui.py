"""The host's board, without a browser: our stages can be chosen, it writes their command, and its runner trains."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small

from llamafactory_sdpo.host.install import install_board
from llamafactory_sdpo.host.webui import names_of_stages
from llamafactory_sdpo.stages import STAGES


ALREADY_THERE = 6  # the host's own stages


class Board:
    """The elements of the board and what a user has put into them."""

    def __init__(self, engine: Any, model: Path, data: Path) -> None:
        self.engine = engine
        self.values = {elem: getattr(elem, "value", None) for elem in engine.manager.get_elem_list()}
        typed = {
            "top.lang": "en",
            "top.model_name": "Custom",
            "top.model_path": str(model),
            "top.finetuning_type": "full",
            "top.template": "llama3",
            "train.dataset_dir": str(data),
            "train.dataset": ["pairs"],
            "train.output_dir": "one",
            "train.compute_type": "fp32",
            "train.batch_size": 2,
            "train.logging_steps": 1,
            "train.pref_beta": 0.3,
        }
        for name, value in typed.items():
            self.type(name, value)

    def type(self, name: str, value: object) -> None:
        self.values[self.engine.manager.get_elem_by_id(name)] = value

    def choose(self, stage: str) -> None:
        shown = {value: name for name, value in names_of_stages().items()}[stage]
        element = self.engine.manager.get_elem_by_id("train.training_stage")
        assert shown in dict(element.choices)
        self.type("train.training_stage", shown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folder, where the board keeps its own."""
    folder, before = tmp_path_factory.mktemp("board"), Path.cwd()
    small.write_data(folder / "data")
    small.write_model(folder / "model")
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def board(folder: Path) -> Board:
    import gradio as gr
    from llamafactory.webui.components import create_top, create_train_tab
    from llamafactory.webui.engine import Engine

    install_board()
    install_board()
    engine = Engine(pure_chat=False)
    with gr.Blocks():
        engine.manager.add_elems("top", create_top())
        engine.manager.add_elems("train", create_train_tab(engine))
    return Board(engine, folder / "model", folder / "data")


def test_our_stages_stand_beside_the_hosts(board: Board) -> None:
    shown = [value for _, value in board.engine.manager.get_elem_by_id("train.training_stage").choices]
    assert len(shown) == ALREADY_THERE + len(STAGES) == len(set(shown))


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_of_a_stage(board: Board, stage: str) -> None:
    board.choose(stage)
    (told,) = [text for shown in board.engine.runner.preview_train(board.values) for text in shown.values()]
    assert f"--stage {stage} " in told and "--pref_beta 0.3 " in told and "--pref_loss sigmoid " in told


def test_the_hosts_own_stages_stay_as_they_are(board: Board) -> None:
    board.type("train.training_stage", "Supervised Fine-Tuning")
    (told,) = [text for shown in board.engine.runner.preview_train(board.values) for text in shown.values()]
    assert "--stage sft " in told and "pref_beta" not in told


def test_the_runner_trains(board: Board, folder: Path) -> None:
    """It starts `llamafactory-cli` by name: the one of this environment comes first in PATH."""
    assert Path(shutil.which("llamafactory-cli") or "").parent == Path(sys.executable).parent
    board.choose("sdpo")
    board.type("train.extra_args", '{"optim": "adamw_torch", "max_steps": 2}')
    last = list(board.engine.runner.run_train(board.values))[-1]
    output = folder / "saves" / "Custom" / "full" / "one"
    assert "finished" in str(list(last.values())).lower(), last
    assert (output / "model.safetensors").is_file() and len(small.losses(output)) == 2


def test_what_it_keeps_beside_the_data_is_no_part_of_the_project() -> None:
    root = Path(__file__).resolve().parents[3]
    for name in ("llamaboard_cache/user_config.yaml", "LLaMA-Factory/llamaboard_config/one.yaml"):
        done = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=root)
        assert done.returncode == 0, name
