"""The records of the step files: an agent's dialogue, where it comes from, and what each step adds.

Comes in: the records of a file. Goes out: models, checked, or one line that names file, record, what was expected and
the script that writes it. Fields of others are kept. Invariant: both records of a pair name the pair, so a record that
was lost can never shift the ones after it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict

from sotopia_sdpo.errors import first_reason
from sotopia_sdpo.judge.dimensions import BY_NAME
from sotopia_sdpo.outcomes import MOST_SHOWN_VALUE, Number, Outcome, range_of
from sotopia_sdpo.play.dialogue import AGENT, PARTNER, Message, check_location
from sotopia_sdpo.step_files import read_list, wrong_record


Position = Literal[0, 1]
"""Which of an episode's two agents."""
SideName = Literal["negative", "positive"]
SIDES: tuple[SideName, SideName] = ("negative", "positive")
SCORES = ("goal", "relationship")
"""What sessions of SOTOPIA are compared by: first the goal, then the relationship."""
TURN_FIELDS = ("from", "value")
ShareGPT = TypedDict("ShareGPT", {"from": str, "value": str, "weight": Annotated[Number, Field(ge=0)]}, total=False)
"""A turn of a file; what else others have in it is left out."""
PLAYED = {"": ("human",), "human": ("gpt",), "gpt": ("human",)}
"""Which turns may come after one, in a session of SOTOPIA; with "" for the beginning."""
LOGGED = {
    "": ("human", *AGENT),
    "human": AGENT,
    "gpt": ("human",),
    "function_call": PARTNER,
    "observation": (*PARTNER, *AGENT),
}
"""The same in a dialogue of any agent: results come after calls, and a human turn after the results."""


def check_dialogue(conversations: list[Message], follows: Mapping[str, Sequence[str]] = LOGGED) -> list[Message]:
    """Check that every turn may come after the one before it, and that the agent has the last one.

    Raises:
        ValueError: if not; the text says which turn.
    """
    start, before = starts_at(conversations), ""
    for index, turn in enumerate(conversations):
        if not turn.keys() >= {*TURN_FIELDS}:
            raise ValueError(f"turn {index} has the fields {', '.join(sorted(turn)) or 'none'}, expected from, value")
        expected = ("system",) if index < start else follows[before]
        if turn["from"] not in expected:
            listed = " or ".join(map(repr, expected))
            raise ValueError(f"turn {index} is a {turn['from']!r} turn, expected {listed}")
        before = "" if index < start else turn["from"]
    if before not in AGENT:
        raise ValueError(f"{len(conversations)} turns that do not end on one of the agent's, expected a 'gpt' turn")
    return conversations


def starts_at(conversations: Sequence[Message]) -> int:
    """Return the index of the first turn of partner or agent: 0, or 1 after a system turn."""
    return int(bool(conversations) and conversations[0].get("from") == "system")


def without_extras(conversations: Any) -> Any:
    """Return a dialogue whose turns have nothing but the fields of `ShareGPT`; the authors' also have an index."""
    if not isinstance(conversations, list):
        return conversations
    known = ShareGPT.__annotations__
    return [
        {name: value for name, value in turn.items() if name in known}
        if isinstance(turn, dict) and turn.keys() > {*TURN_FIELDS}
        else turn
        for turn in conversations
    ]


Turns = Annotated[list[Message], GetPydanticSchema(lambda _, handler: handler(list[ShareGPT]))]
Conversations = Annotated[Turns, BeforeValidator(without_extras), AfterValidator(check_dialogue)]
Alternating = Annotated[
    Turns, BeforeValidator(without_extras), AfterValidator(partial(check_dialogue, follows=PLAYED))
]


class DialogueRecord(BaseModel):
    """One agent's dialogue in the published form, of which nothing else is known."""

    model_config = ConfigDict(extra="allow")

    conversations: Conversations

    def dump(self) -> dict[str, Any]:
        """Return it as a file has it: our fields that are set, and all fields of others."""
        return {**self.model_dump(exclude_none=True), **(self.model_extra or {})}


class PlayedSide(DialogueRecord):
    """One agent's side of an episode, with that side's scores: an expert's, a negative or a positive."""

    conversations: Alternating
    episode: str
    env: str
    agents: tuple[str, str]
    agent_position: Position
    goal: Number
    relationship: Number
    agent_model: str | None = None
    partner_model: str | None = None
    differs: bool = Field(default=False, exclude=True)
    """Whether the file names no episode, and has another dialogue than the one session that its place fits."""

    @property
    def name(self) -> str:
        """The episode and the role, which identify a side."""
        return f"{self.episode}/{self.agent_position}"

    @property
    def scores(self) -> tuple[float, float]:
        """What orders sessions from worse to better: the goal, then the relationship."""
        return self.goal, self.relationship

    @property
    def outcomes(self) -> list[Outcome]:
        """The scores by the names and ranges of their dimensions."""
        return [BY_NAME[name].outcome(getattr(self, name)) for name in SCORES]


def read_tools(value: Any) -> Any:
    """Return descriptions of tools that are written as JSON; anything else as it is.

    Raises:
        ValueError: if they are no JSON.
    """
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("expected a list of tools, or their JSON") from None


def written_tools(tools: list[dict[str, Any]] | None) -> str | None:
    """Write descriptions of tools as JSON; None where there are none."""
    return None if tools is None else json.dumps(tools, ensure_ascii=False)


class LoggedSide(DialogueRecord):
    """A dialogue of any agent out of a log, with what it came to."""

    tools: Annotated[list[dict[str, Any]] | None, BeforeValidator(read_tools), PlainSerializer(written_tools)] = None
    """Descriptions of the tools that the agent may call; in a file their JSON, since no table has a column for it."""
    episode: str
    """Names the dialogue among all."""
    task: str
    """Names what was asked of the agent; dialogues of one task can be compared."""
    trial: int
    source: str
    """The benchmark, or the form of the log."""
    agent_model: str | None = None
    user_tools: str | None = None
    """What became of the calls of a user who has tools; None where the user has none."""
    outcomes: list[Outcome]
    tail: Turns | None = None
    """What came after the agent's last turn, which no training reads."""

    @property
    def name(self) -> str:
        """What identifies it."""
        return self.episode

    @model_validator(mode="after")
    def _has_each_outcome_once(self) -> Self:
        names = [outcome.name for outcome in self.outcomes]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"outcomes: {twice} comes twice")
        for one in self.outcomes:
            if not one.is_in_range:
                raise ValueError(f"outcomes: {one.name} is {one.value:g}, expected {range_of(one.low, one.high)}")
        return self


class Located(DialogueRecord):
    """A dialogue with the turn that went wrong."""

    location: int
    reason: str

    @model_validator(mode="after")
    def _is_the_agents(self) -> Self:
        check_location(self.conversations, self.location)
        return self


class LocatedSide(Located, PlayedSide):
    """A negative of SOTOPIA with the turn that went wrong."""


class LocatedLog(Located, LoggedSide):
    """A negative out of a log with the turn that went wrong."""


class Paired(DialogueRecord):
    """One of the two sides of a preference pair."""

    side: SideName
    pair: str
    location: int | None = None
    location_reason: str | None = None
    segment: tuple[int, int] | None = None
    """Half-open, over conversations, from the same turn on both sides."""
    reason: str | None = None
    """Why this segment."""

    @model_validator(mode="after")
    def _are_inside(self) -> Self:
        first, length = int(self.conversations[0]["from"] not in AGENT), len(self.conversations)
        if self.location is not None and self.location < length:
            check_location(self.conversations, self.location)
        if self.segment is not None and not first <= self.segment[0] < self.segment[1] <= length:
            raise ValueError(f"segment {list(self.segment)} is not in the dialogue of {length} turns")
        return self


class PairedSide(Paired, PlayedSide):
    """A side of a pair of SOTOPIA."""

    goal_gain: Number | None = None
    relationship_gain: Number | None = None


class PairedLog(Paired, LoggedSide):
    """A side of a pair out of logs."""

    match: Literal["state"] | None = None
    """How the history is shared, where it is not really word for word: by the same calls with the same results."""
    outcome_gains: dict[str, Number] | None = None
    """By outcome: the positive's value less the negative's."""


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
    model = DialogueRecord if not is_ours else PairedLog if holds_logs(rows) else PairedSide
    sides = [read_record(path, number, row, model, writer) for number, row in enumerate(rows)]
    for number, side in enumerate(sides):
        if isinstance(side, Paired):
            _check_adjacent(path, number, side, sides[number - number % 2], writer)
    if len(sides) % 2:
        reason = "it has no positive after it, expected pairs of a negative and its positive"
        raise wrong_record(path, len(sides) - 1, reason, writer)
    check_unique(path, [f"{side.pair} ({side.side})" for side in sides if isinstance(side, Paired)], writer)
    return [PreferencePair(*both) for both in zip(sides[::2], sides[1::2], strict=True)]


def holds_logs(rows: Sequence[Any]) -> bool:
    """Return whether the records of a file come out of logs; SOTOPIA's have no list of outcomes."""
    return any(isinstance(row, dict) and "outcomes" in row for row in rows)


def _check_adjacent(path: Path, number: int, side: Paired, first: DialogueRecord, writer: str) -> None:
    """Check a record of ours against its place in the file and against the first record of its pair."""
    expected = SIDES[number % 2]
    if side.side != expected:
        raise wrong_record(path, number, f"side is {side.side!r}, expected {expected!r} here", writer)
    if isinstance(first, Paired) and side.pair != first.pair:
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
