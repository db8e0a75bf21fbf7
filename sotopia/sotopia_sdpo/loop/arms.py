"""Runs of several agents on the same scenarios, side by side: means, and what each gains over the first.

Comes in: a store, and the tags of every arm's episodes. Goes out: a table, and results.json.
Invariant: the first arm is what the others are compared with, paired by combo and role; several tags of an arm (seeds,
trials) are pooled.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.compare import compare
from sotopia_sdpo.results.scores import Score, results_of, scores_of
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.results.tables import simulation_note
from sotopia_sdpo.step_files import write_json
from sotopia_sdpo.store.base import Store


SHOWN = ("goal", "relationship")


class Arm(NamedTuple):
    """An agent's episodes, and how it does on them."""

    name: str
    scores: list[Score]
    estimates: dict[str, Estimate]
    gains: dict[str, Estimate]
    """Over the first arm, paired; empty for that one itself."""
    runs: list[float]
    """The mean goal of each tag's episodes: what seeds make of it."""


def show(store: Store, typed: Sequence[str], output: Path | None) -> None:
    """Print arms side by side, and write them to a file if one is given.

    Args:
        store: where their episodes are.
        typed: NAME=TAG[,TAG...] for each.
        output: the file.

    Raises:
        UserError: if an arm cannot be read, or the file not be written.
    """
    arms = read_arms(store, typed)
    print("\n".join([table(arms), *simulation_note(score for one in arms for score in one.scores)]), flush=True)
    if output:
        write_json([(output, {one.name: record_of(one) for one in arms})])


def read_arms(store: Store, typed: Sequence[str]) -> list[Arm]:
    """Read the episodes of every arm.

    Raises:
        UserError: if an arm is not written NAME=TAG, has no scored episode, or none that the first arm has too.
    """
    arms: list[Arm] = []
    for text in typed:
        name, mark, tags = text.partition("=")
        if not (name and mark and tags) or name in {one.name for one in arms}:
            raise UserError(f"--arm {text}: expected NAME=TAG[,TAG...], with a name of its own")
        runs = [scores_of(store, [tag]) for tag in tags.split(",")]
        scores = [score for run in runs for score in run]
        if not scores:
            raise UserError(f"--arm {text}: {store.url} has no scored episode of these tags; see `sotopia db info`")
        gains = compare(arms[0].scores, scores, ()) if arms else []
        if arms and not gains:
            raise UserError(
                f"--arm {text}: none of its episodes is on a combo of {arms[0].name}, so nothing is paired"
            )
        estimates = results_of(scores, ())[0].estimates
        means = [results_of(run, ())[0].estimates[SHOWN[0]].mean for run in runs if run]
        arms.append(Arm(name, scores, estimates, gains[0].difference if gains else {}, means))
    return arms


def record_of(arm: Arm) -> dict[str, Any]:
    """Write an arm as results.json has it: every dimension, and the gains over the first arm."""
    record: dict[str, Any] = {name: estimate.record() for name, estimate in arm.estimates.items()}
    record["goal_by_run"] = arm.runs
    if arm.gains:
        record["gain"] = {name: estimate.record() for name, estimate in arm.gains.items()}
    return record


def table(arms: Sequence[Arm]) -> str:
    """Write the arms a line each: means with 95 % intervals, and what each gains over the first."""
    width = max(len(arm.name) for arm in arms)
    head = "".join(f"{name:>14}  {'95 % interval':15}{'gain':>7}  {'95 % interval':15}" for name in SHOWN)
    by_run = "  goal by run" if any(len(arm.runs) > 1 for arm in arms) else ""
    lines = [f"{'':{width}}{head}  episodes{by_run}".rstrip()]
    for arm in arms:
        cells = "".join(_cells(arm, name) for name in SHOWN)
        runs = "  " + " ".join(map(decimals, arm.runs)) if by_run else ""
        lines.append(f"{arm.name:{width}}{cells}  {arm.estimates[SHOWN[0]].values:8}{runs}")
    return "\n".join(lines)


def _cells(arm: Arm, name: str) -> str:
    own, gain = arm.estimates[name], arm.gains.get(name)
    gained = f"{decimals(gain.mean, '+'):>7}  {gain.interval:15}" if gain else f"{'':24}"
    return f"{decimals(own.mean):>14}  {own.interval:15}{gained}"
