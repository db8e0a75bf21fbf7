"""The records of the step files: an agent's dialogue, where it comes from, and what each step adds.

Comes in: the records of a file. Goes out: models, checked, or one line that names file, record, what was expected and
the script that writes it. Fields of others are kept. Invariant: both records of a pair name the pair, so a record that
was lost can never shift the ones after it.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sotopia_sdpo.errors import first_reason
from sotopia_sdpo.play.dialogue import Message, check_location
from sotopia_sdpo.step_files import read_list, wrong_record


Position = Literal[0, 1]
"""Which of an episode's two agents."""
SideName = Literal["negative", "positive"]
SIDES: tuple[SideName, SideName] = ("negative", "positive")
SCORES = ("goal", "relationship")
"""What sessions are compared by: first the goal, then the relationship."""
MOST_SHOWN_VALUE = 60
TURN_FIELDS = {"from", "value"}


def check_score(score: Any) -> Any:
    """Check that a score is a finite number.

    Raises:
        ValueError: if it is not.
    """
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or (isinstance(score, float) and not isfinite(score)):
        raise ValueError(f"expected a number, found {str(score)[:MOST_SHOWN_VALUE]!r}")
    return score


Score = Annotated[int | float, BeforeValidator(check_score)]


def check_dialogue(conversations: list[Message]) -> list[Message]:
    """Check that a dialogue starts with a human turn, alternates, and ends on a turn of the agent's.

    Raises:
        ValueError: if it does not; the text says which turn.
    """
    start = starts_at(conversations)
    for index, turn in enumerate(conversations):
        if not turn.keys() >= TURN_FIELDS:
            raise ValueError(f"turn {index} has the fields {', '.join(sorted(turn)) or 'none'}, expected from, value")
        expected = "system" if index < start else ("human", "gpt")[(index - start) % 2]
        if turn["from"] != expected:
            raise ValueError(f"turn {index} is a {turn['from']!r} turn, expected {expected!r}")
    if len(conversations) - start < 2 or conversations[-1]["from"] != "gpt":
        raise ValueError(f"{len(conversations)} turns that do not end on one of the agent's, expected a 'gpt' turn")
    return conversations


def starts_at(conversations: Sequence[Message]) -> int:
    """Return the index of the first human turn: 0, or 1 after a system turn."""
    return int(bool(conversations) and conversations[0].get("from") == "system")


def without_extras(conversations: Any) -> Any:
    """Return a dialogue whose turns have nothing but `from` and `value`; the authors' also have an index."""
    if not isinstance(conversations, list):
        return conversations
    return [
        {"from": turn["from"], "value": turn["value"]}
        if isinstance(turn, dict) and turn.keys() > TURN_FIELDS
        else turn
        for turn in conversations
    ]


Conversations = Annotated[list[Message], BeforeValidator(without_extras), AfterValidator(check_dialogue)]


class DialogueRecord(BaseModel):
    """One agent's dialogue in the published form, of which nothing else is known."""

    model_config = ConfigDict(extra="allow")

    conversations: Conversations

    def dump(self) -> dict[str, Any]:
        """Return it as a file has it: our fields that are set, and all fields of others."""
        return {**self.model_dump(exclude_none=True), **(self.model_extra or {})}


class PlayedSide(DialogueRecord):
    """One agent's side of an episode, with that side's scores: an expert's, a negative or a positive."""

    episode: str
    env: str
    agents: tuple[str, str]
    agent_position: Position
    goal: Score
    relationship: Score
    agent_model: str | None = None
    partner_model: str | None = None
    differs: bool = Field(default=False, exclude=True)
    """Whether the file names no episode, and has another dialogue than the one session that its place fits."""

    @property
    def name(self) -> str:
        """The episode and the role, which identify a side."""
        return f"{self.episode}/{self.agent_position}"

    @property
    def scores(self) -> tuple[Score, Score]:
        """What orders sessions from worse to better: the goal, then the relationship."""
        return self.goal, self.relationship


class LocatedSide(PlayedSide):
    """A negative with the turn that went wrong."""

    location: int
    reason: str

    @model_validator(mode="after")
    def _is_the_agents(self) -> Self:
        check_location(self.conversations, self.location)
        return self


class PairedSide(PlayedSide):
    """One of the two sides of a preference pair."""

    side: SideName
    pair: str
    location: int | None = None
    location_reason: str | None = None
    goal_gain: Score | None = None
    relationship_gain: Score | None = None
    segment: tuple[int, int] | None = None
    """Half-open, over conversations, the same on both sides."""
    reason: str | None = None
    """Why this segment."""

    @model_validator(mode="after")
    def _are_inside(self) -> Self:
        if self.location is not None and self.location < len(self.conversations):
            check_location(self.conversations, self.location)
        if self.segment is not None and not 0 < self.segment[0] < self.segment[1] <= len(self.conversations):
            raise ValueError(f"segment {list(self.segment)} is not in the dialogue of {len(self.conversations)} turns")
        return self


R = TypeVar("R", bound=DialogueRecord)
P = TypeVar("P", bound=PlayedSide)


class PreferencePair(NamedTuple, Generic[R]):
    """A negative and a positive that start from the same point."""

    negative: R
    positive: R


def read_records(path: Path, model: type[R], writer: str) -> list[R]:
    """Read a step file.

    Raises:
        UserError: the first record that is wrong.
    """
    return [read_record(path, number, row, model, writer) for number, row in enumerate(read_list(path, writer))]


def read_pairs(path: Path, writer: str) -> list[PreferencePair[DialogueRecord]]:
    """Read a file of pairs: ours, whose records name their pair, or one in the published form, where they do not.

    Raises:
        UserError: the first record that is wrong, or that has lost its other side.
    """
    rows = read_list(path, writer)
    is_ours = any(isinstance(row, dict) and ("pair" in row or "side" in row) for row in rows)
    model = PairedSide if is_ours else DialogueRecord
    sides = [read_record(path, number, row, model, writer) for number, row in enumerate(rows)]
    for number, side in enumerate(sides):
        if isinstance(side, PairedSide):
            _check_adjacent(path, number, side, sides[number - number % 2], writer)
    if len(sides) % 2:
        reason = "it has no positive after it, expected pairs of a negative and its positive"
        raise wrong_record(path, len(sides) - 1, reason, writer)
    check_unique(path, [f"{side.pair} ({side.side})" for side in sides if isinstance(side, PairedSide)], writer)
    return [PreferencePair(*both) for both in zip(sides[::2], sides[1::2], strict=True)]


def _check_adjacent(path: Path, number: int, side: PairedSide, first: DialogueRecord, writer: str) -> None:
    """Check a record of ours against its place in the file and against the first record of its pair."""
    expected = SIDES[number % 2]
    if side.side != expected:
        raise wrong_record(path, number, f"side is {side.side!r}, expected {expected!r} here", writer)
    if isinstance(first, PairedSide) and side.pair != first.pair:
        raise wrong_record(path, number, f"pair is {side.pair!r}, expected {first.pair!r} here", writer)


def read_record(path: Path, number: int, row: Any, model: type[R], writer: str) -> R:
    """Read one record of a file.

    Raises:
        UserError: if it is wrong.
    """
    if not isinstance(row, dict):
        raise wrong_record(path, number, f"expected an object, found {str(row)[:MOST_SHOWN_VALUE]!r}", writer)
    try:
        return model.model_validate(row)
    except ValidationError as err:
        raise wrong_record(path, number, first_reason(err), writer) from err


def check_unique(path: Path, keys: Sequence[str], writer: str) -> None:
    """Check that no key comes twice.

    Raises:
        UserError: the first record that has the key of an earlier one.
    """
    seen: dict[str, int] = {}
    for number, key in enumerate(keys):
        if key in seen:
            raise wrong_record(path, number, f"{key} repeats record {seen[key]}", writer)
        seen[key] = number
