"""What a trainer logs, as lines of less than 80 columns. All of it stands in trainer_log.jsonl."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any


WIDTH = 79
"""Columns of a line at most."""

SHOWN = (("loss", "loss", 3), ("rewards/accuracies", "acc", 2), ("rewards/margins", "margin", 2))
"""The logged key -> its name on the screen, and the decimals of a number below 10."""

EVALUATION = "eval_"

TOLD = ("loss", "pairs", "epoch", "_runtime", "_per_second", "_time", "total_flos")
PARTS = ("rewards/", "logps/", "logits/")
"""Ends, and parts, of the names of results that have had a line, or that nobody asked for."""


def folded(line: str) -> str:
    """Return a line as it is, or broken where it is too long, with what follows the first break indented."""
    if len(line) <= WIDTH:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False)


def number(value: float, decimals: int) -> str:
    """Return a number in five or six characters: 0.613, 12.3, 1234, 9.1e-5, 2.0e7, nan."""
    size = abs(value)
    if size >= 1e4 or 0 < size < 0.5 * 10**-decimals:
        return scientific(value)
    return f"{value:z.{decimals if size < 10 else 1 if size < 100 else 0}f}"


def scientific(value: float) -> str:
    """Return a number as 2.9e-3."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Return a time as 1:02, 3:04:05, or 2 d 7 h."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def step_line(logs: Mapping[str, Any], step: int, steps: int, left_s: float | None) -> str:
    """Return the line of a logged step.

    Args:
        logs: what was logged.
        step: its number, from 1.
        steps: of the whole training.
        left_s: seconds until its end; None if that is not known yet.
    """
    rate = [f"lr {scientific(logs['learning_rate'])}"] if "learning_rate" in logs else []
    left = [f"{duration(left_s)} left"] if left_s is not None else []
    begin, wanted = [_place("step", step, steps), *_shown(logs, "")], [*rate, *left]
    line = "  ".join([*begin, *wanted])
    # Of all that is known beforehand, the rate is what can be spared.
    return line if len(line) <= WIDTH else "  ".join([*begin, *left])


def evaluation_lines(logs: Mapping[str, Any], step: int, steps: int) -> list[str]:
    """Return a line for each set of held-out data in what was logged; several sets have names."""
    ends = [key.removesuffix("loss") for key in logs if key.startswith(EVALUATION) and key.endswith("_loss")]
    return ["  ".join([_place("eval", step, steps), *_shown(logs, prefix), *_set(logs, prefix)]) for prefix in ends]


def end_line(logs: Mapping[str, Any], step: int) -> str:
    """Return the line of a training's end."""
    rate = logs.get("train_samples_per_second")
    speed = [f"{number(rate, 1)} examples/s"] if rate else []
    loss = [f"mean loss {number(logs['train_loss'], 3)}"] if "train_loss" in logs else []
    return "  ".join([f"{step} steps in {duration(logs['train_runtime'])}", *speed, *loss])


def results_line(split: str, metrics: Mapping[str, Any]) -> str:
    """Return the line of the results that have had none, such as a reward model's accuracy or a perplexity; or ''."""
    untold = {key: value for key, value in metrics.items() if isinstance(value, int | float)
              and not key.endswith(TOLD) and not any(part in key for part in PARTS)}  # fmt: skip
    if not untold:
        return ""
    return "  ".join([split, *(f"{key.removeprefix(f'{split}_')} {number(untold[key], 3)}" for key in untold)])


def _place(kind: str, step: int, steps: int) -> str:
    return f"{kind} {step:>{len(str(steps))}}/{steps}"


def _shown(logs: Mapping[str, Any], prefix: str) -> list[str]:
    found = ((name, logs.get(prefix + key), decimals) for key, name, decimals in SHOWN)
    return [f"{name} {number(value, decimals)}" for name, value, decimals in found if value is not None]


def _set(logs: Mapping[str, Any], prefix: str) -> list[str]:
    """Return how many pairs a set has, and its name if it has one."""
    name, pairs = prefix.removeprefix(EVALUATION).rstrip("_"), logs.get(f"{prefix}pairs")
    counted = f"{pairs} pairs" if pairs else ""
    return [part for part in (counted, name) if part]
