"""Read pairs for showing: any hand may have written their optional fields, so all of these are checked.

Comes in: the path of a file of pairs, ours or of others. Goes out: pairs whose optional fields have their form.
Invariant: outcomes are finite, a segment and the negative's located turn lie in the dialogue.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from sotopia_sdpo.outcomes import Outcome, named
from sotopia_sdpo.pairs.records import SCORES, DialogueRecord, Position, PreferencePair, read_pairs, read_record
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
    task: str | None = None
    trial: StrictInt | None = None
    source: str | None = None
    outcomes: list[Outcome] | None = None
    outcome_gains: dict[str, Number] | None = None
    match: Literal["state"] | None = None
    location: StrictInt | None = None
    location_reason: str | None = None
    segment: tuple[StrictInt, StrictInt] | None = None
    reason: str | None = None

    @property
    def is_logged(self) -> bool:
        """Whether it comes out of a log."""
        return self.outcomes is not None

    @property
    def outcome_names(self) -> list[str]:
        """The names of what may be known of it."""
        return list(SCORES) if self.outcomes is None else [one.name for one in self.outcomes]

    def value(self, name: str) -> float | None:
        """Return an outcome; None where it is unknown."""
        if self.outcomes is None:
            return getattr(self, name) if name in SCORES else None
        found = named(self.outcomes, name)
        return found.value if found else None

    def gain(self, name: str) -> float | None:
        """Return the gain in an outcome that the record has, where it has one."""
        if self.outcomes is None:
            return getattr(self, f"{name}_gain") if name in SCORES else None
        return (self.outcome_gains or {}).get(name)

    @model_validator(mode="after")
    def _segment_is_inside(self) -> Self:
        length = len(self.conversations)
        if self.segment and not 0 <= self.segment[0] < self.segment[1] <= length:
            raise ValueError(f"segment {list(self.segment)} is not in the dialogue of {length} turns")
        return self


ShownPair = PreferencePair[ShownSide]


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
    if holds_gains(found):
        found = [PreferencePair(*map(with_scores_as_gains, pair)) for pair in found]
    return [with_both_segments(pair) for pair in found]


def holds_gains(pairs: Sequence[PreferencePair[ShownSide]]) -> bool:
    """Return whether goal and relationship are the pairs' gains, which the authors' files have on both records.

    Sides with the same two scores would be no pair, so a file in which all are the same holds no scores.
    """
    scores = [[getattr(side, name) for side in pair for name in SCORES] for pair in pairs]
    return all(found[:2] == found[2:] for found in scores) and any(found != [None] * 4 for found in scores)


def with_scores_as_gains(side: ShownSide) -> ShownSide:
    """Return a side whose scores are unknown, and the gains what stood for them."""
    gains = {f"{name}_gain": getattr(side, name) for name in SCORES if getattr(side, f"{name}_gain") is None}
    return side.model_copy(update=gains | dict.fromkeys(SCORES))


def with_both_segments(pair: PreferencePair[ShownSide]) -> PreferencePair[ShownSide]:
    """Return a pair whose segment is marked on both sides: one that has none has it to its end, as in training."""
    start = next((side.segment[0] for side in pair if side.segment), None)
    if start is None:
        return pair
    return PreferencePair(*(_with_segment_from(start, side) for side in pair))


def _with_segment_from(start: int, side: ShownSide) -> ShownSide:
    length = len(side.conversations)
    return side if side.segment or start >= length else side.model_copy(update={"segment": (start, length)})


def _check_located(path: Path, number: int, negative: ShownSide, writer: str) -> None:
    """Check that a negative's located turn, if it has one, is the agent's."""
    if negative.location is None:
        return
    try:
        check_location(negative.conversations, negative.location)
    except ValueError as err:
        raise wrong_record(path, number, err, writer) from err
