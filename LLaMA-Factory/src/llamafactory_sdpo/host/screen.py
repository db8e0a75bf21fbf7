"""Put our screen in the place of the host's and transformers': no bar of steps, no dicts, one figure of the curves.

The dicts stand in trainer_log.jsonl, whole, where the host writes a part of them.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import transformers.trainer
from transformers import Trainer

from ..screen.curves import FIGURE, draw_curves
from ..screen.lines import folded, results_line
from ..screen.progress import Screen, say
from .names import (
    IGNORE_INDEX,
    UnsupervisedDatasetProcessor,
    host_dpo_workflow,
    host_kto_workflow,
    host_loader,
    host_ppo_workflow,
    host_pt_workflow,
    host_rm_workflow,
    host_sft_workflow,
    host_tuner,
)
from .seams import seam, substituted


WORKFLOWS = (
    *(host_dpo_workflow, host_kto_workflow, host_ppo_workflow),
    *(host_pt_workflow, host_rm_workflow, host_sft_workflow),
)
"""The modules of the host that draw a figure for each curve, under `plot_loss`."""

STATE = "trainer_state.json"
ON_SCREEN = ("train", "eval")
"""The results whose lines `Screen` has printed."""

_HostLogCallback: Any = seam(host_tuner, "LogCallback")


class _Pool:
    """The thread with which the host writes its log, for one entry, to which it adds what the host leaves out."""

    def __init__(self, pool: Any, logs: dict[str, Any]) -> None:
        self._pool, self._logs = pool, logs

    def submit(self, write: Callable[..., None], folder: str, entry: dict[str, Any]) -> None:
        self._pool.submit(write, folder, {**entry, **{key: self._logs[key] for key in self._logs.keys() - entry}})


class WholeLog(_HostLogCallback):
    """The host's writer of trainer_log.jsonl, with all that was logged in every entry."""

    thread_pool: Any

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write an entry."""
        pool = self.thread_pool
        if pool is not None:
            self.thread_pool = _Pool(pool, dict(logs or {}))
        try:
            super().on_log(args, state, control, logs=logs, **kwargs)
        finally:
            self.thread_pool = pool


@contextmanager
def short_screen() -> Iterator[None]:
    """Show a training with our lines for as long as the block runs."""
    drawn: set[str] = set()
    with ExitStack() as stack:
        for module in WORKFLOWS:
            plot = seam(module, "plot_loss", "save_dictionary", "keys")
            stack.enter_context(substituted(module, plot_loss=partial(_plot, plot, drawn)))
        make = seam(host_loader, "_get_dataset_processor")
        stack.enter_context(substituted(host_loader, _get_dataset_processor=partial(_short_example, make)))
        stack.enter_context(substituted(host_tuner, LogCallback=WholeLog))
        stack.enter_context(
            substituted(transformers.trainer, DEFAULT_PROGRESS_CALLBACK=Screen, PrinterCallback=Screen)
        )
        theirs = seam(Trainer, "log_metrics", "split", "metrics")
        # A function of a class, so that it gets the trainer.
        stack.enter_context(substituted(Trainer, log_metrics=lambda *args: _log_metrics(theirs, drawn, *args)))
        yield


def _plot(theirs: Callable[..., None], drawn: set[str], folder: str, keys: list[str]) -> None:
    """Draw the host's figures without its lines, and ours."""
    with redirect_stdout(io.StringIO()):
        theirs(folder, keys=keys)
    history = json.loads((Path(folder) / STATE).read_text(encoding="utf-8"))["log_history"]
    if draw_curves(history, Path(folder) / FIGURE, folder):
        drawn.add(folder)


def _log_metrics(
    theirs: Callable[..., None], drawn: set[str], trainer: Any, split: str, metrics: dict[str, Any]
) -> None:
    """Print results that have had no line; draw our figure again with those on held-out data."""
    if split not in ON_SCREEN:
        theirs(trainer, split, metrics)
    elif trainer.is_world_process_zero() and (line := results_line(split, metrics)):
        say(folded(line))
    folder = trainer.args.output_dir
    if split == "eval" and folder in drawn:
        draw_curves(trainer.state.log_history, Path(folder) / FIGURE, folder)


def _short_example(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the host's processor, which prints of an example of SFT what is trained on, and no ids."""
    processor = make(*args, **kwargs)
    theirs = processor.print_data_example
    # Where answers are generated, labels are what they are compared with.
    is_trained_on = not isinstance(processor, UnsupervisedDatasetProcessor)

    def print_data_example(example: dict[str, Any]) -> None:
        labels = example.get("labels")
        if not is_trained_on or not labels:
            theirs(example)
            return
        runs = (list(run) for is_scored, run in groupby(labels, lambda label: label != IGNORE_INDEX) if is_scored)
        for run in runs:
            print(folded(f"  trained on: [{processor.tokenizer.decode(run)}]"), flush=True)

    processor.print_data_example = print_data_example
    return processor
