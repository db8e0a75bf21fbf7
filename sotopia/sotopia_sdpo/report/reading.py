"""Read pairs for showing: any hand may have written their optional fields, so all of these are checked.

Comes in: the path of a file of pairs, ours or of others. Goes out: pairs whose optional fields have their form.
Invariant: scores are finite, a segment and the negative's located turn lie in the dialogue.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StrictInt, model_validator

from sotopia_sdpo.pairs.records import DialogueRecord, Position, PreferencePair, read_pairs, read_record
from sotopia_sdpo.play.dialogue import check_location
from sotopia_sdpo.step_files import wrong_record


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class ShownSide(DialogueRecord):
    """One side of a pair with all that a page can show; published files have none of it."""

    pair: str | None = None
    episode: str | None = None
    env: str | None = None
    agents: list[str] | None = None
    agent_model: str | None = None
    partner_model: str | None = None
    agent_position: Position | None = None
    goal: Number | None = None
    relationship: Number | None = None
    goal_gain: Number | None = None
    relationship_gain: Number | None = None
    location: StrictInt | None = None
    location_reason: str | None = None
    segment: tuple[StrictInt, StrictInt] | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _segment_is_inside(self) -> Self:
        length = len(self.conversations)
        if self.segment and not 0 <= self.segment[0] < self.segment[1] <= length:
            raise ValueError(f"segment {list(self.segment)} is not in the dialogue of {length} turns")
        return self


def shown_pairs(path: Path, writer: str) -> list[PreferencePair[ShownSide]]:
    """Read and check all pairs of a file.

    Args:
        path: the file.
        writer: the script that writes it, for the messages.

    Raises:
        UserError: if it is not there, is not such a list, or has a wrong record; one line that says where.
    """
    found = []
    for number, pair in enumerate(read_pairs(path, writer)):
        first = 2 * number
        sides = [read_record(path, first + place, side.dump(), ShownSide, writer) for place, side in enumerate(pair)]
        _check_located(path, first, sides[0], writer)
        found.append(PreferencePair(*sides))
    return found


def _check_located(path: Path, number: int, negative: ShownSide, writer: str) -> None:
    """Check that a negative's located turn, if it has one, is the agent's."""
    if negative.location is None:
        return
    try:
        check_location(negative.conversations, negative.location)
    except ValueError as err:
        raise wrong_record(path, number, err, writer) from err
