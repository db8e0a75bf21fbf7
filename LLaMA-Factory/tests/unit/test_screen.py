"""What a training shows: its lines, who prints them, the figure, and which warnings are left out."""

import importlib.util
import json
import logging
import math
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT
from llamafactory.data.processor import SupervisedDatasetProcessor

from llamafactory_sdpo.host.install import install
from llamafactory_sdpo.host.names import UnsupervisedDatasetProcessor, host_loader, host_tuner
from llamafactory_sdpo.host.screen import WORKFLOWS, short_screen
from llamafactory_sdpo.host.seams import seam
from llamafactory_sdpo.screen import progress, quiet
from llamafactory_sdpo.screen.curves import draw_curves, running_mean
from llamafactory_sdpo.screen.following import what_next
from llamafactory_sdpo.screen.lines import (
    duration,
    end_line,
    evaluation_lines,
    folded,
    number,
    results_line,
    scientific,
    step_line,
)


install()
LOGGED = {"loss": 0.6134, "rewards/accuracies": 0.75, "rewards/margins": 0.2345, "learning_rate": 2.9e-3, "epoch": 1}


# ---- lines ----------------------------------------------------------------------------------------------------------


def test_the_line_of_a_step():
    line = "step  28/135  loss 0.613  acc 0.75  margin 0.23  lr 2.9e-3  1:02 left"
    assert step_line(LOGGED, 28, 135, 62.4) == line
    assert step_line({"loss": 7.0, "learning_rate": 0}, 1, 4, None) == "step 1/4  loss 7.000  lr 0"


@pytest.mark.parametrize("size", [0, 3e-7, 0.04, 0.99949, 9.99, 99.96, 999.9, 123456.0, 1e20, math.inf, math.nan])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_has_less_than_80_columns(size, sign):
    logs = {"loss": size, "rewards/accuracies": 1.0, "rewards/margins": sign * size, "learning_rate": 1.25e-12}
    assert len(step_line(logs, 100_000, 100_000, 86_399)) < 80
    assert len(number(sign * size, 3)) <= 8


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (-0.001, "-1.0e-3"), (0.5, "0.50"), (9.996, "10.00"), (12.34, "12.3"), (-250.4, "-250"), (20000, "2.0e4")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value, 2) == text


def test_scientific_numbers_and_times():
    assert [scientific(value) for value in (0, 2.9e-3, 1e-6, 123.0)] == ["0", "2.9e-3", "1.0e-6", "1.2e2"]
    assert [duration(value) for value in (0, 62.4, 3599.6, 3725, 90_000)] == ["0:00", "1:02", "1:00:00", "1:02:05", "1 d 1 h"]  # fmt: skip


def test_the_line_of_an_evaluation():
    logs = {"eval_loss": 0.544, "eval_rewards/accuracies": 0.783, "eval_rewards/margins": 3.746, "eval_pairs": 60}
    assert evaluation_lines(logs, 135, 135) == ["eval 135/135  loss 0.544  acc 0.78  margin 3.75  60 pairs"]
    assert evaluation_lines({"eval_a_b_loss": 1.0, "eval_a_b_runtime": 2.0}, 2, 10) == ["eval  2/10  loss 1.000  a_b"]
    assert evaluation_lines({"eval_runtime": 2.0}, 2, 10) == []


def test_results_that_have_had_no_line_get_one():
    """A reward model's accuracy, and a perplexity, which the host computes when the line of the loss is printed."""
    logged = {"eval_loss": 0.5, "eval_runtime": 1.0, "eval_steps_per_second": 2.0, "epoch": 1.0}
    assert results_line("eval", {**logged, "eval_accuracy": 0.75}) == "eval  accuracy 0.750"
    assert results_line("eval", {**logged, "eval_a_perplexity": 327.2}) == "eval  a_perplexity 327"
    assert results_line("train", {"train_loss": 1.0, "total_flos": 9, "effective_tokens_per_sec": 812.5}) == (
        "train  effective_tokens_per_sec 812"
    )
    of_pairs = {"eval_pairs": 60, "eval_rewards/margins": 1.0, "eval_logps/chosen": -9.0, "eval_sft_loss": 2.0}
    assert results_line("eval", {**logged, **of_pairs}) == ""


def test_the_line_of_the_end():
    logs = {"train_runtime": 46.8, "train_samples_per_second": 11.53, "train_loss": 0.4377, "total_flos": 1.0}
    assert end_line(logs, 135) == "135 steps in 0:47  11.5 examples/s  mean loss 0.438"


def test_long_lines_are_folded_and_short_ones_are_not():
    assert folded("  short:  [a\n]") == "  short:  [a\n]"
    lines = folded("  rejected, agent turn 0: [" + "word " * 40 + "]").splitlines()
    assert len(lines) > 2 and max(map(len, lines)) < 80
    assert lines[0].startswith("  rejected") and all(line.startswith("      word") for line in lines[1:])


# ---- who prints -----------------------------------------------------------------------------------------------------


def test_the_time_that_is_left_begins_with_the_first_step(monkeypatch, capsys):
    """Not before it, where the reference has its pass; and a training that goes on counts its own steps."""
    clock = iter([100.0, 108.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    screen = progress.Screen()
    state = SimpleNamespace(is_world_process_zero=True, global_step=50, max_steps=60)
    screen.on_step_begin(None, state, None)
    state.global_step = 52
    screen.on_log(None, state, None, logs=LOGGED)
    # Two steps took 8 s, and 8 are left.
    assert capsys.readouterr().out.endswith("lr 2.9e-3  0:32 left\n")


def test_where_a_training_goes_on_is_said(capsys):
    """The same command with another option goes on from what it finds: without a line nobody would see that."""
    args = SimpleNamespace(resume_from_checkpoint="out/checkpoint-50")
    progress.Screen().on_train_begin(args, SimpleNamespace(is_world_process_zero=True, global_step=50), None)
    told = capsys.readouterr().out
    assert (
        " ".join(told.split()) == "goes on from out/checkpoint-50, of step 50; overwrite_output_dir: true begins anew"
    )
    progress.Screen().on_train_begin(args, SimpleNamespace(is_world_process_zero=True, global_step=0), None)
    assert capsys.readouterr().out == ""


def test_other_ranks_print_nothing(capsys):
    state = SimpleNamespace(is_world_process_zero=False, global_step=1, max_steps=2)
    progress.Screen().on_log(None, state, None, logs=LOGGED)
    progress.Screen().on_train_begin(SimpleNamespace(resume_from_checkpoint="out/checkpoint-1"), state, None)
    assert capsys.readouterr().out == ""


def test_what_takes_long_has_a_line_a_minute_and_one_in_the_end(monkeypatch, capsys):
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.progress(range(6), "reference", 6)) == list(range(6))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-1].startswith("reference  6/6  in ") and "\r" not in out + err
    assert 1 <= len([line for line in lines if line.endswith(" left")]) <= 3


def test_the_next_step_fits_the_stage():
    """Every command names a config that is there, of another stage or with other data."""
    for stage, config in (("sft", "sdpo.yaml"), ("sdpo", "sdpo.yaml"), ("eto", "sdpo.yaml"), ("dmpo", "sdpo.yaml")):
        lines = what_next(stage, False, Path("/out"))
        assert f"examples/demo/{config}" in lines[1]
        assert max(map(len, lines)) < 80
    assert any("model_name_or_path=/out" in line for line in what_next("sft", False, Path("/out")))
    lora = what_next("sft", True, Path("/out"))
    assert [line.strip(" \\") for line in lora[1:]] == [
        "bash train.sh LLaMA-Factory/examples/demo/sdpo_lora.yaml",
        *("adapter_name_or_path=/out", "create_new_adapter=true", "output_dir=NEW"),
    ]
    spaced = "".join(line.strip(" \\") + " " for line in what_next("sft", True, Path("/my runs/out"))[1:])
    assert shlex.split(spaced)[3] == "adapter_name_or_path=/my runs/out"
    for name in ("sdpo", "sdpo_lora", "eto", "dmpo"):
        assert yaml.safe_load((ROOT / "examples" / "demo" / f"{name}.yaml").read_text())["stage"] in ("sdpo", name)


# ---- the host's places ----------------------------------------------------------------------------------------------


def test_the_host_still_has_what_the_screen_replaces():
    import transformers.trainer

    for module in WORKFLOWS:
        seam(module, "plot_loss", "save_dictionary", "keys")
    callback = seam(host_tuner, "LogCallback")
    seam(callback, "on_log", "args", "state", "control")
    seam(callback, "_write_log", "output_dir", "logs")
    seam(transformers.trainer, "DEFAULT_PROGRESS_CALLBACK")
    seam(transformers.trainer, "PrinterCallback")
    seam(transformers.Trainer, "log_metrics", "split", "metrics")


@pytest.mark.parametrize(("generates", "told"), [(False, "  trained on: [[7]]\n"), (True, "theirs\n")])
def test_an_example_says_what_is_trained_on(monkeypatch, capsys, generates, told):
    """Not where answers are generated, whose labels nobody trains on."""
    kind = UnsupervisedDatasetProcessor if generates else SupervisedDatasetProcessor
    monkeypatch.setattr(kind, "print_data_example", lambda self, example: print("theirs"))
    tokenizer = SimpleNamespace(decode=str)
    with short_screen():
        processor = host_loader._get_dataset_processor(
            SimpleNamespace(packing=False), "sft", None, tokenizer, None, do_generate=generates
        )
    processor.print_data_example({"input_ids": [5, 7], "labels": [-100, 7]})
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("known", quiet.KNOWN, ids=lambda known: known.source)
def test_a_warning_that_is_left_out_is_still_said(known):
    spec = importlib.util.find_spec(known.source.rpartition(".")[0])
    source = Path(spec.submodule_search_locations[0]) / f"{known.source.rpartition('.')[2]}.py"
    # What the host fills in itself is not in its source.
    assert known.message.removesuffix("eval_") in source.read_text(encoding="utf-8"), (
        f"{known.source} no longer says {known.message!r}; take it out of KNOWN in screen/quiet.py"
    )


def test_warnings_are_left_out_by_name(caplog, monkeypatch):
    """Another message of the same logger passes, and so does the same one of another."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    quiet.quieten(has_gpu=False)
    quiet.quieten(has_gpu=False)
    logger = logging.getLogger("transformers.modeling_utils")
    assert len([found for found in logger.filters if isinstance(found, quiet._Without)]) == 1
    with caplog.at_level("WARNING"):
        logger.warning("`torch_dtype` is deprecated! Use `dtype` instead!")
        logger.warning("`torch_dtype` is wrong")
        logging.getLogger("mine").warning("`torch_dtype` is deprecated!")
    # A handler of the library's may be caplog's as well.
    assert list(dict.fromkeys((record.name, record.message) for record in caplog.records)) == [
        ("transformers.modeling_utils", "`torch_dtype` is wrong"),
        ("mine", "`torch_dtype` is deprecated!"),
    ]


def test_what_every_machine_says_is_left_out_before_the_heavy_imports():
    """The demo's model is built before the host is asked for a GPU; a process of its own, as filters stay."""
    code = (
        "import logging, warnings; from llamafactory_sdpo.screen import quiet; quiet.prepare();"
        "logging.getLogger('DeepSpeed').warning('Setting accelerator to CPU.');"
        "logging.getLogger('llamafactory.hparams.parser').warning('We recommend enable mixed precision')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Setting accelerator" not in done.stderr
    assert "mixed precision" in done.stderr, "whether it is left out depends on the GPU, which is not known yet"


def test_pythons_warnings_are_left_out_by_module():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet.quieten(has_gpu=False)
        for module in ("trl.trainer.dpo_trainer", "mine"):
            warnings.warn_explicit("The `padding_value` property is deprecated", UserWarning, "x.py", 1, module=module)
    assert len(caught) == 1


# ---- the figure -----------------------------------------------------------------------------------------------------


def test_the_figure_has_a_panel_for_each_curve(tmp_path):
    steps = [{**LOGGED, "step": step} for step in range(1, 41)]
    heights = {}
    for name, history in (("pairs", [*steps, {"eval_loss": 0.6, "step": 40}]), ("sft", [{"loss": 1.0, "step": n} for n in (1, 2)])):  # fmt: skip
        assert draw_curves(history, tmp_path / f"{name}.png", "title")
        image = (tmp_path / f"{name}.png").read_bytes()
        assert image[:4] == b"\x89PNG"
        heights[name] = int.from_bytes(image[20:24], "big")
    assert heights["pairs"] > 2 * heights["sft"]
    assert not draw_curves(steps[:1], tmp_path / "one.png", "title") and not (tmp_path / "one.png").exists()


def test_the_running_mean():
    assert running_mean([1, 2, 3, 4], 1) == [1, 2, 3, 4]
    assert running_mean([1, 2, 3, 10], 3) == [1.5, 2, 5, 6.5]
    assert json.dumps(running_mean([4.0, 8.0], 2)) == "[6.0, 8.0]"
