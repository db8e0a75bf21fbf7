"""What came of a step, in a few words, by the files that it wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


Remark = Callable[[], str]
ADAPTER = "adapter"
"""The folder of a LoRA adapter, in that of the model that it is merged into."""


def records(unit: str, path: Path, per_unit: int = 1, of: Path | None = None) -> Remark:
    """Return what counts the records of a file, and of the one that they come from.

    Args:
        unit: what is counted, in the plural.
        path: the file.
        per_unit: records of it that make one.
        of: the file they come from.
    """

    def count() -> str:
        source = f" of {len(_read(of))}" if of else ""
        return f"{len(_read(path)) // per_unit}{source} {unit}"

    return count


def training(folder: Path) -> Remark:
    """Return what reads how a model does on held-out data, else its loss in training."""

    def result() -> str:
        found: dict[str, Any] = next(
            filter(None, (_read(trained_in(folder) / f"{name}_results.json") for name in ("eval", "train"))), {}
        )
        if "eval_rewards/accuracies" in found:
            return f"{found['eval_rewards/accuracies']:.0%} of {found['eval_pairs']} held-out pairs right"
        named = {"held-out loss": found.get("eval_loss"), "loss": found.get("train_loss")}
        return next((f"{name} {value:.3f}" for name, value in named.items() if value is not None), "")

    return result


def trained_in(model: Path) -> Path:
    """Return the folder in which the training of a model has left what it says of itself."""
    return model / ADAPTER if (model / ADAPTER).is_dir() else model


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
