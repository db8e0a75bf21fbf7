"""Loss, margin and reward accuracy of a training in one figure, of the steps and of held-out data."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..whole_files import write_whole
from .lines import EVALUATION


FIGURE = "training_curves.png"

STEPS_COLOUR, HELD_OUT_COLOUR, CHANCE_COLOUR = "#1f77b4", "#d62728", "#888888"
SMOOTHED = 20
"""One part in so many of the steps is what a point of the smooth line averages."""


class Panel(NamedTuple):
    """A panel of the figure.

    Attributes:
        key: that is logged.
        title: above it.
        chance: the value of a model that prefers neither side, None if there is none.
    """

    key: str
    title: str
    chance: float | None


PANELS = (
    Panel("loss", "loss", None),
    Panel("rewards/margins", "margin: reward of the chosen side less that of the rejected one", 0.0),
    Panel("rewards/accuracies", "reward accuracy: share of pairs whose chosen side has the higher reward", 0.5),
)


def draw_curves(history: Sequence[dict[str, Any]], path: Path, title: str) -> bool:
    """Write the figure; return whether there was anything to draw.

    Args:
        history: what the trainer logged, each with its `step`.
        path: of the PNG file.
        title: of the whole.
    """
    panels = [panel for panel in PANELS if len(_points(history, panel.key)[0]) > 1]
    if not panels:
        return False
    # Heavy.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.8 + 2.3 * len(panels)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, history)
    axes[-1].set_xlabel("step")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    write_whole(path, image.getvalue())
    return True


def _draw(axis: Any, panel: Panel, history: Sequence[dict[str, Any]]) -> None:
    """Draw one panel: every logged step, their running mean, and the evaluations."""
    if panel.chance is not None:
        axis.axhline(panel.chance, color=CHANCE_COLOUR, linestyle="--", linewidth=0.8, label="neither side preferred")
    steps, values = _points(history, panel.key)
    axis.plot(steps, values, color=STEPS_COLOUR, alpha=0.3, linewidth=1, label="logged steps")
    window = max(1, len(values) // SMOOTHED)
    if window > 1:
        label = f"mean of {window} around each"
        axis.plot(steps, running_mean(values, window), color=STEPS_COLOUR, linewidth=1.8, label=label)
    held_out = sorted({key for entry in history for key in entry if key.startswith(EVALUATION)
                       and key.endswith(f"_{panel.key}")})  # fmt: skip
    for place, key in enumerate(held_out):
        name = key.removeprefix(EVALUATION).removesuffix(panel.key).rstrip("_")
        label = f"held out{f': {name}' if name else ''}"
        style = {"color": HELD_OUT_COLOUR, "alpha": 1 - 0.6 * place / len(held_out), "linewidth": 1}
        axis.plot(*_points(history, key), marker="o", markersize=5, label=label, **style)
    axis.set_title(panel.title, fontsize=9, loc="left")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, loc="best", framealpha=0.8)


def _points(history: Sequence[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    found = [(entry["step"], entry[key]) for entry in history if key in entry]
    return [step for step, _ in found], [value for _, value in found]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of the values around each, so many or, at the ends, those that there are."""
    before, after = (window - 1) // 2, window // 2 + 1
    slices = (values[max(0, place - before) : place + after] for place in range(len(values)))
    return [sum(part) / len(part) for part in slices]
