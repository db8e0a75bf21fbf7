"""`--check`: whether a config can be trained, how many steps that takes and about how much memory; nothing is written.

Types, models, templates and data are checked by what checks and encodes them in a training, so what passes here is
refused there only by what the machine or the weights say.
"""

import math
import tempfile
from pathlib import Path
from typing import Any

from .errors import UserError
from .host.arguments import read_args
from .host.counting import Arguments, Split, data_of, model_of, parse, setting_of
from .host.install import install
from .launcher import announce_files, ranks_of
from .memory import GIB, Model, Setting, before_the_first_step, optimizer_bytes, parts
from .screen.progress import say


def check(argv: list[str]) -> None:
    """Check a config and its overrides, and print what a training with it would be.

    Raises:
        UserError: if a training would refuse it.
    """
    install()
    args = read_args(argv)
    if not isinstance(args, dict):
        raise UserError("--check takes a config, like a training: CONFIG.yaml [key=value ...]")
    announce_files(args)
    with tempfile.TemporaryDirectory(prefix="sdpo-check-") as folder:
        for line in report(parse(args), Path(folder)):
            say(line)


def report(arguments: Arguments, folder: Path) -> list[str]:
    """Return the lines of a check.

    Args:
        arguments: of the config.
        folder: for what is written on the way.
    """
    model = model_of(arguments)
    ranks = ranks_of(arguments.training.ray_num_workers)
    lines = [
        f"stage   {arguments.stage}, {arguments.tuning.finetuning_type}, template {arguments.data.template}",
        model_line(model),
    ]
    if arguments.data.streaming:
        return [*lines, "data    streamed, so neither counted nor checked", "in order; nothing was written"]
    splits = data_of(arguments, folder)
    unit = "pairs" if arguments.tuning.pair_stage else "rows"
    lines += [split_line(name, split, unit, arguments.data.cutoff_len) for name, split in splits.items()]
    if arguments.training.do_train:
        lines.append(steps_line(arguments.training, splits["train"].rows, ranks, unit))
    return [*lines, *memory_lines(model, setting_of(arguments, ranks, splits)), "in order; nothing was written"]


def model_line(model: Model) -> str:
    """Return what a model is."""
    trained = f"{_millions(model.trained + model.added)} trained" + (" (LoRA)" if model.added else "")
    shape = f"{model.layers} layers, width {model.hidden:,}, {model.vocabulary:,} tokens"
    return f"model   {_millions(model.parameters)} parameters, {trained}; {shape}"


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def split_line(name: str, split: Split, unit: str, cutoff: int) -> str:
    """Return what a split of the data holds."""
    scored = f"{split.scored:,} of {split.tokens:,} tokens scored"
    return f"{name:<7} {split.rows:,} {unit}, {scored}, at most {split.longest:,} (cutoff_len {cutoff:,})"


def steps_of(
    rows: int, size: int, ranks: int, accumulated: int, epochs: float, most: int, drops: bool = False
) -> tuple[int, int]:
    """Return the updates of an epoch and of a training, as transformers counts them.

    Args:
        rows: to train on.
        size: of a batch of one rank.
        ranks: that share them.
        accumulated: batches of an update.
        epochs: passes over the rows.
        most: `max_steps`, which decides where it is positive.
        drops: whether the last batches are left out where they are not full.
    """
    batches = rows // size // ranks if drops else math.ceil(rows / (size * ranks))
    each = max(math.ceil(batches / accumulated), 1)
    return each, most if most > 0 else math.ceil(epochs * each)


def steps_line(training: Any, rows: int, ranks: int, unit: str) -> str:
    """Return how many steps a training takes."""
    size, accumulated = training.per_device_train_batch_size, training.gradient_accumulation_steps
    epochs, most, drops = training.num_train_epochs, training.max_steps, training.dataloader_drop_last
    each, steps = steps_of(rows, size, ranks, accumulated, epochs, most, drops)
    product = f"{size} x {ranks} rank{'s' * (ranks > 1)} x {accumulated} accumulated"
    return f"steps   {steps:,}, {each:,} an epoch, of {size * ranks * accumulated} {unit} ({product})"


def memory_lines(model: Model, setting: Setting) -> list[str]:
    """Return what the arithmetic says of the memory of a rank."""
    sizes = parts(model, setting)
    first = before_the_first_step(model, setting)
    zero = f", ZeRO-{setting.zero} over {setting.ranks}" if setting.zero else ""
    most = max(sum(sizes.values()), first)
    lines = [f"memory  {_size(most)} a rank{zero}: an estimate by arithmetic, activations roughly"]
    lines += [f"          {name:<12}{_size(size):>10}" for name, size in sizes.items() if size]
    if first:
        lines.append(f"          {_size(first)} in the reference's pass before the first step")
    if setting.reference == "policy":
        lines.append("          the reference is the policy with its adapter off")
    if setting.offloaded:
        lines.append(f"          in the machine's memory, and not counted: {' and '.join(setting.offloaded)}")
    if optimizer_bytes(setting.optimizer) is None:
        lines.append(f"          the state of optim {setting.optimizer} is not known, and not counted")
    return lines


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / GIB * 1024:.0f} MiB"
