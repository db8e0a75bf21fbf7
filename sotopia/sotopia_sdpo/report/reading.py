"""Read pairs for showing: what is said of them may come from any hand, so all of it is checked.

Comes in: the path of a file of pairs, ours or of others. Goes out: pairs whose optional fields have their form.
Invariant: scores are finite, a segment and the negative's located turn lie in the dialogue.
"""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StrictInt, ValidationError, model_validator

from sotopia_sdpo.errors import first_reason
from sotopia_sdpo.pairs.records import Bare, read_pairs
from sotopia_sdpo.play.dialogue import check_location
from sotopia_sdpo.step_files import wrong_record


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Shown(Bare):
    """One side of a pair with all that a page can show; published files have none of it."""

    pair: str | None = None
    episode: str | None = None
    env: str | None = None
    agents: list[str] | None = None
    agent_model: str | None = None
    partner_model: str | None = None
    agent_position: Literal[0, 1] | None = None
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


class ShownPair(NamedTuple):
    """Two sides of one beginning."""

    negative: Shown
    positive: Shown


def shown_pairs(path: Path, writer: str) -> list[ShownPair]:
    """Read and check all pairs of a file.

    Args:
        path: the file.
        writer: the script that writes it, for the messages.

    Raises:
        UserError: if it is not there, not such a list, or a record of it is not in order; one line that says where.
    """
    found = []
    for number, pair in enumerate(read_pairs(path, writer)):
        sides = [_shown(path, 2 * number + place, side, writer) for place, side in enumerate(pair)]
        negative = sides[0]
        if negative.location is not None:
            try:
                check_location(negative.conversations, negative.location)
            except ValueError as err:
                raise wrong_record(path, 2 * number, err, writer) from err
        found.append(ShownPair(*sides))
    return found


def _shown(path: Path, number: int, side: Bare, writer: str) -> Shown:
    try:
        return Shown.model_validate(side.dump())
    except ValidationError as err:
        raise wrong_record(path, number, first_reason(err).removeprefix("Value error, "), writer) from err
