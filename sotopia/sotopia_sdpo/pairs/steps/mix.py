"""Mix the pairs of several rounds: all of them, but of one place those of the newest round alone.

Comes in: files of pairs, the newest first. Goes out: one file of pairs, in that order.
Invariant: a place, which is a quest, or a scenario with its characters and a role, has pairs of one file.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.records import DialogueRecord, LoggedSide, PlayedSide, PreferencePair, read_pairs
from sotopia_sdpo.pairs.tally import Tally, write_kept
from sotopia_sdpo.step_files import MIXED_PAIRS, SEGMENT_PAIRS


Files = Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False, help="Pairs, the newest first.")]


def main(files: Files, output: options.Output = None, data_dir: options.DataDir = None) -> None:
    """Mix the pairs of several rounds, the newest file first."""
    tally, seen = Tally("pairs"), set[Hashable]()
    kept: list[PreferencePair[DialogueRecord]] = []
    for path in files:
        places = [(place_of(path, pair.negative), pair) for pair in read_pairs(path, SEGMENT_PAIRS.writer)]
        new = list(tally.only(places, lambda one: one[0] not in seen, "of a place that a newer file has too"))
        seen.update(place for place, _ in new)
        kept += [pair for _, pair in new]
    tally.keep(len(kept))
    rows = [side.dump() for pair in kept for side in pair]
    write_kept(tally, "pair", [(options.place(output, MIXED_PAIRS, data_dir), rows)])


def place_of(path: Path, negative: DialogueRecord) -> Hashable:
    """Return what a negative was asked to do: its quest, or its scenario, characters and role.

    Raises:
        UserError: if the file does not tell.
    """
    if isinstance(negative, LoggedSide):
        return negative.source, negative.task
    if isinstance(negative, PlayedSide):
        return negative.env, negative.agents, negative.agent_position
    raise UserError(f"{path}: its records do not tell their scenarios, expected pairs of {SEGMENT_PAIRS.writer}")
