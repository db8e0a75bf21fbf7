"""Figures of results, drawn with matplotlib, which the extra `figures` and the training environment bring.

Comes in: a league, agreement of judges or curves of training. Goes out: a PNG, or whatever the file's ending says.
Invariant: a figure appears whole or not at all, and shows only numbers that a table prints as well.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.league import League
from sotopia_sdpo.results.stats import Estimate


DOTS_PER_INCH = 150
ROW_INCHES, PANEL_INCHES = 0.35, 3.6
OWN, MARKED, PLAIN = "#444444", "#b2182b", "#4575b4"


class Dots(NamedTuple):
    """One panel: a figure with its interval for every row."""

    title: str
    rows: Mapping[str, Estimate]
    marked: frozenset[str] = frozenset()
    """Rows in another colour."""
    zero: float | None = None
    """Where a line of reference stands."""


class Curve(NamedTuple):
    """One line of a panel."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


def league_figure(league: League, path: Path) -> None:
    """Draw the arms of a league: their means, and what each gains over the first, with 95 % intervals.

    Raises:
        UserError: if matplotlib is missing, or the file cannot be written.
    """
    first = league.arms[0].name
    panels = []
    for name in league.shown:
        means = {arm: found[name].estimate for arm, found in league.means.items() if name in found}
        gains = {b: found[name] for (a, b), found in league.gaps.items() if a == first and name in found}
        marked = frozenset(arm for arm, gap in gains.items() if gap.mark)
        panels.append(Dots(name, means))
        over = {arm: gap.found.estimate for arm, gap in gains.items()}
        panels.append(Dots(f"{name}, over {first}", over, marked, 0))
    dots_figure([arm.name for arm in league.arms], panels, path)


def dots_figure(rows: Sequence[str], panels: Sequence[Dots], path: Path) -> None:
    """Draw panels beside each other, the first row on top.

    Raises:
        UserError: if matplotlib is missing, or the file cannot be written.
    """
    figure, axes = _subplots(len(panels), 1 + ROW_INCHES * len(rows), sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        if panel.zero is not None:
            axis.axvline(panel.zero, color="#bbbbbb", linewidth=1)
        for place, row in enumerate(rows):
            if found := panel.rows.get(row):
                colour = MARKED if row in panel.marked else OWN if panel.zero is None else PLAIN
                ends = (0.0, 0.0) if math.isnan(found.low) else (found.mean - found.low, found.high - found.mean)
                margins = [[end] for end in ends]
                axis.errorbar(found.mean, place, xerr=margins, fmt="o", color=colour, capsize=3, markersize=5)
        axis.set_title(panel.title, fontsize=10)
        axis.set_yticks(range(len(rows)), rows)
        axis.grid(axis="x", color="#eeeeee")
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    _save(figure, path)


def curves_figure(panels: Mapping[str, Sequence[Curve]], path: Path, along: str = "step") -> None:
    """Draw panels of curves beside each other, by their titles; a name has one colour in all of them.

    Raises:
        UserError: if matplotlib is missing, or the file cannot be written.
    """
    figure, axes = _subplots(len(panels), PANEL_INCHES)
    names = list(dict.fromkeys(curve.name for curves in panels.values() for curve in curves))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for curve in curves:
            axis.plot(curve.steps, curve.values, label=curve.name, color=f"C{names.index(curve.name)}", linewidth=1.5)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(along)
        axis.grid(color="#eeeeee")
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[-1].legend([handles[name] for name in names], names, fontsize=8)
    _save(figure, path)


def _subplots(count: int, height: float, **options: Any) -> tuple[Any, list[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'sotopia-sdpo[figures]'") from None
    # A Figure of its own, without pyplot: no display, and no state that another figure shares.
    figure = Figure(figsize=(PANEL_INCHES * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, **options)[0])


def _save(figure: Any, path: Path) -> None:
    aside = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        figure.savefig(aside, dpi=DOTS_PER_INCH)
        aside.replace(path)
    except (OSError, ValueError) as err:
        raise UserError(f"{path}: cannot be drawn ({err}); name a file like results.png or results.pdf") from err
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
