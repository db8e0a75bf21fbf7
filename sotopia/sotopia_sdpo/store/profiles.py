"""Profiles as they come in, in any of the published spellings, and as they are kept: upstream's fields and types.

Comes in: a scenario, a character, a relationship or a combo as a dict. Goes out: the same with upstream's names.
Invariants: what the sources call "nan" or "none" is absent here; unknown fields are kept as they are;
reading what was written gives the same again.
"""

import ast
import math
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sotopia_sdpo.store.base import Profile, ProfileKind
from sotopia_sdpo.text import whole_text


ABSENT_TEXT = "nan"
NO_CONSTRAINT = "none"
RELATIONSHIPS = ("stranger", "know_by_name", "acquaintance", "friend", "romantic_relationship", "family_member")


def _relationship_number(value: Any) -> Any:
    """Read the enum's number, which may be text, or its name."""
    name = value.removeprefix("RelationshipType.").strip() if isinstance(value, str) else value
    return RELATIONSHIPS.index(name) if name in RELATIONSHIPS else name


def _agent_constraint(value: Any) -> Any:
    """Read a list that may be written as text."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"expected lists of agents, found {value[:60]!r}") from None


Relationship = Annotated[int, BeforeValidator(_relationship_number), Field(ge=0, lt=len(RELATIONSHIPS))]
AgentConstraint = Annotated[list[list[str]] | None, BeforeValidator(_agent_constraint)]


def _key(*names: str) -> Any:
    """Declare a primary key that has other names in the published files."""
    return Field(min_length=1, validation_alias=AliasChoices(*names))


class _Profile(BaseModel):
    """What the four kinds share."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_absent(cls, data: Any) -> Any:
        """Leave out absent values, so that their defaults stand."""
        return {name: value for name, value in data.items() if not is_absent(name, value)}


class Environment(_Profile):
    """A scenario."""

    pk: str = _key("pk", "env_id")
    codename: str = ""
    source: str = ""
    scenario: str
    agent_goals: list[str] = Field(default_factory=list)
    relationship: Relationship = 0
    age_constraint: str | None = None
    occupation_constraint: str | None = None
    agent_constraint: AgentConstraint = None
    tag: str = ""


class Agent(_Profile):
    """A character."""

    pk: str = _key("pk", "agent_id")
    first_name: str
    last_name: str
    age: int = 0
    occupation: str = ""
    gender: str = ""
    gender_pronoun: str = ""
    public_info: str = ""
    big_five: str = ""
    moral_values: list[str] = Field(default_factory=list)
    schwartz_personal_values: list[str] = Field(default_factory=list)
    personality_and_values: str = ""
    decision_making_style: str = ""
    secret: str = ""
    model_id: str = ""
    mbti: str = ""
    tag: str = ""


class Relation(_Profile):
    """What two characters are to each other."""

    pk: str = _key("pk", "relationship_id")
    agent_1_id: str = Field(validation_alias=AliasChoices("agent_1_id", "agent1_id"))
    agent_2_id: str = Field(validation_alias=AliasChoices("agent_2_id", "agent2_id"))
    relationship: Relationship
    background_story: str | None = None
    tag: str = ""


class Combo(_Profile):
    """A scenario and who plays it."""

    pk: str = _key("pk", "combo_id")
    env_id: str = Field(min_length=1)
    agent_ids: list[str] = Field(min_length=1)


SHAPES: dict[ProfileKind, type[_Profile]] = {
    "environments": Environment,
    "agents": Agent,
    "relationships": Relation,
    "combos": Combo,
}
PUBLISHED_FILES: dict[ProfileKind, str] = {
    "environments": "environment_profiles.jsonl",
    "agents": "agent_profiles.jsonl",
    "relationships": "relationship_profiles.jsonl",
    "combos": "env_agent_combo_storages.jsonl",
}
PUBLISHED_NAMES: dict[ProfileKind, dict[str, str]] = {
    "environments": {"pk": "env_id"},
    "agents": {"pk": "agent_id"},
    "relationships": {"pk": "relationship_id", "agent_1_id": "agent1_id", "agent_2_id": "agent2_id"},
    "combos": {"pk": "combo_id"},
}


def is_absent(name: str, value: Any) -> bool:
    """Return whether a value is one of the sources' ways to write that there is none."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value == ABSENT_TEXT or (name == "agent_constraint" and value == NO_CONSTRAINT)


def to_profile(kind: ProfileKind, data: dict[str, Any]) -> Profile:
    """Return a profile in upstream's shape.

    Raises:
        pydantic.ValidationError: if a field is missing or of the wrong kind.
    """
    return SHAPES[kind].model_validate(whole_text(data)).model_dump(mode="json")


def to_published(kind: ProfileKind, profile: Profile) -> dict[str, Any]:
    """Return a profile in the shape of the published files, which upstream's own readers expect."""
    row = {PUBLISHED_NAMES[kind].get(name, name): value for name, value in profile.items()}
    if not row.get("tag"):
        row.pop("tag", None)
    if "relationship" in row:
        row["relationship"] = str(row["relationship"])
    for name in ("age_constraint", "occupation_constraint", "background_story"):
        if name in row and row[name] is None:
            row[name] = ABSENT_TEXT
    if "agent_constraint" in row:
        row["agent_constraint"] = str(row["agent_constraint"]) if row["agent_constraint"] else NO_CONSTRAINT
    return row
