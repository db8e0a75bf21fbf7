"""Runs of several agents on the same scenarios, side by side: read from stores, printed, and written to files.

Comes in: a store, and the tags of every arm's episodes. Goes out: tables, and the files that are asked for.
Invariant: the first arm is what the others are compared with; the tags of an arm are its runs (seeds, trials), which
are paired with the runs of another arm by their places where both have as many.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.results.figures import league_figure
from sotopia_sdpo.results.league import Arm, ArmRun, League, league_of
from sotopia_sdpo.results.league_tables import csv_table, latex_table, record_of, text_table
from sotopia_sdpo.results.score_files import score_table
from sotopia_sdpo.results.scores import scores_of
from sotopia_sdpo.results.tables import simulation_note
from sotopia_sdpo.step_files import write_json
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.text import is_one_line, one_line
from sotopia_sdpo.whole_files import write_whole


class Files(NamedTuple):
    """Where the results go, besides the screen."""

    json: Path | None = None
    csv: Path | None = None
    latex: Path | None = None
    figure: Path | None = None
    scores: Path | None = None


def show(store: Store, typed: Sequence[str], files: Files) -> None:
    """Print arms side by side, and write what is asked for.

    Args:
        store: where their episodes are.
        typed: NAME=TAG[,TAG...] for each.
        files: where the results go.

    Raises:
        UserError: if an arm cannot be read, or a file not be written.
    """
    publish(league_of(read_arms(store, typed)), files)


def publish(league: League, files: Files) -> None:
    """Print a league, and write it in every form that is asked for.

    Raises:
        UserError: if a file cannot be written.
    """
    scores = [score for arm in league.arms for score in arm.scores]
    print("\n".join([text_table(league), *simulation_note(scores)]), flush=True)
    if files.json:
        write_json([(files.json, {arm.name: record_of(league, arm) for arm in league.arms})])
    for path, write in ((files.csv, csv_table), (files.latex, latex_table)):
        if path:
            _write(path, write(league))
    if files.scores:
        _write(files.scores, score_table(league.arms))
    if files.figure:
        league_figure(league, files.figure)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as err:
        raise UserError(f"{path}: cannot be written ({err.strerror}); name another file") from err


def read_arms(store: Store, typed: Sequence[str]) -> list[Arm]:
    """Read the episodes of every arm.

    Raises:
        UserError: if an arm is not written NAME=TAG, has no scored episode, or none that the first arm has too, or if
            there is no episode of one of its tags.
    """
    arms: list[Arm] = []
    known = store.counts().episodes
    runs_of_first = 0
    for text in typed:
        name, mark, tags = text.partition("=")
        if not (name and mark and tags) or name in {one.name for one in arms} or not is_one_line(name):
            raise UserError(f"--arm {one_line(text)}: expected NAME=TAG[,TAG...], with a name of its own in one line")
        named = tags.split(",")
        runs_of_first = runs_of_first or len(named)
        # Runs of another number are not the same ones.
        others = "" if len(named) == runs_of_first else f"of {len(named)}/"
        arm = arm_of(store, name, {f"{others}{number}": tag for number, tag in enumerate(named)})
        if not arm.scores:
            raise UserError(f"--arm {text}: {store.url} has no scored episode of these tags; see `sotopia db info`")
        if missing := next((tag for tag in named if tag not in known), None):
            raise UserError(f"--arm {text}: {store.url} has no episode of tag {missing}; see `sotopia db info`")
        if arms and not {score.combo for score in arm.scores} & {score.combo for score in arms[0].scores}:
            raise UserError(
                f"--arm {text}: none of its episodes is on a combo of {arms[0].name}, so nothing is paired"
            )
        arms.append(arm)
    return arms


def arm_of(store: Store, name: str, tags: dict[str, str]) -> Arm:
    """Read an arm.

    Args:
        store: where its episodes are.
        name: of the arm.
        tags: by the name of the run.
    """
    counts = store.counts().episodes
    runs = [ArmRun(run, scores_of(store, [tag])) for run, tag in tags.items()]
    unscored = sum(
        count for tag in tags.values() for status, count in counts.get(tag, {}).items() if status != "scored"
    )
    return Arm(name, [run for run in runs if run.scores], unscored)


def joined(arms: Iterable[Arm]) -> Arm:
    """Put the runs of an arm on several SFT agents together."""
    found = list(arms)
    return Arm(found[0].name, [run for arm in found for run in arm.runs], sum(arm.unscored for arm in found))
