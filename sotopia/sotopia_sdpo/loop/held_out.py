"""What trainings say of themselves: how often they rank held-out pairs right, and the curves of their logs.

Comes in: the folders of the models of every arm. Goes out: lines, and a figure of the loss, the margin and the
accuracy along the steps, the mean over an arm's runs. Invariant: a run without such a log, as of SFT, is left out,
never a zero.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sotopia_sdpo.loop.remarks import trained_in
from sotopia_sdpo.results.figures import Curve, curves_figure


ACCURACY, PAIRS = "eval_rewards/accuracies", "eval_pairs"
CURVES = {"loss": "loss", "margin of rewards": "rewards/margins", "reward accuracy": "rewards/accuracies"}
"""Titles of panels -> what the trainer logs."""
POINTS = 20
"""To how many points a curve is averaged."""


def lines(models: Mapping[str, Sequence[Path]]) -> list[str]:
    """Say for every arm that has held-out pairs how often they are ranked right, over all its runs."""
    told = []
    for arm, folders in models.items():
        found = [
            one for one in (_read(trained_in(folder) / "eval_results.json") for folder in folders) if ACCURACY in one
        ]
        if found:
            by_run = " ".join(f"{one[ACCURACY]:.2f}" for one in found)
            pairs = min(one[PAIRS] for one in found)
            told.append(f"  {arm:16}{fmean(one[ACCURACY] for one in found):6.2f}{pairs:7}  {by_run}")
    return [f"  {'held-out pairs':16}{'right':>6}{'pairs':>7}  by run", *told] if told else []


def curves(models: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Draw the curves of all arms."""
    panels = {title: [_curve(arm, folders, name) for arm, folders in models.items()] for title, name in CURVES.items()}
    shown = {title: [curve for curve in found if curve] for title, found in panels.items()}
    if any(shown.values()):
        curves_figure({title: found for title, found in shown.items() if found}, path, "share of training")


def _curve(arm: str, folders: Sequence[Path], name: str) -> Curve | None:
    """Return the mean curve of an arm, in POINTS points; None where no run logged it."""
    runs = [_logged(folder, name) for folder in folders]
    runs = [run for run in runs if run]
    if not runs:
        return None
    count = min(POINTS, *(len(run) for run in runs))
    means = [fmean(fmean(_part(run, place, count)) for run in runs) for place in range(count)]
    return Curve(arm, [(place + 0.5) / count for place in range(count)], means)


def _part(values: Sequence[float], place: int, count: int) -> Sequence[float]:
    return values[len(values) * place // count : len(values) * (place + 1) // count]


def _logged(folder: Path, name: str) -> list[float]:
    history = _read(trained_in(folder) / "trainer_state.json").get("log_history", [])
    return [one[name] for one in history if name in one]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
