"""What a JSON object holds: an episode or a profile of some kind, in which spelling, and its form in a store.

Comes in: an object of a file, or a document of a snapshot with its class. Goes out: an entry for
Store.put_entries. Invariant: the same object always becomes the same entry, so importing twice changes nothing.
"""

import json
from typing import Any, cast

from pydantic import ValidationError

from sotopia_sdpo.errors import first_reason
from sotopia_sdpo.store.base import Entry, ProfileKind
from sotopia_sdpo.store.episode import Episode, has_verdicts
from sotopia_sdpo.store.keys import pk_of
from sotopia_sdpo.store.profiles import to_profile


DOCUMENT_CLASSES: dict[str, str] = {
    "EpisodeLog": "episodes",
    "EnvironmentProfile": "environments",
    "AgentProfile": "agents",
    "RelationshipProfile": "relationships",
    "EnvAgentComboStorage": "combos",
}
"""Upstream's classes, as the keys of its documents name them."""
CLASS_OF = {kind: name for name, kind in DOCUMENT_CLASSES.items()}
MARKS: tuple[tuple[str, frozenset[str]], ...] = (
    ("episodes", frozenset({"environment", "agents", "messages"})),
    ("episodes", frozenset({"environment_id", "agent_ids", "raw_messages"})),
    ("environments", frozenset({"scenario", "agent_goals"})),
    ("agents", frozenset({"first_name", "last_name"})),
    ("relationships", frozenset({"agent_1_id", "agent_2_id", "relationship"})),
    ("relationships", frozenset({"agent1_id", "agent2_id", "relationship"})),
    ("combos", frozenset({"env_id", "agent_ids"})),
)
"""Fields by which an object is recognised, the most specific first."""
PUBLISHED_EPISODE = {
    "episode_id": "pk",
    "environment_id": "environment",
    "agent_ids": "agents",
    "experiment_tag": "tag",
    "experiment_model_name_pairs": "models",
    "raw_messages": "messages",
    "raw_rewards": "rewards",
    "raw_rewards_prompt": "rewards_prompt",
}
PROFILE_IDS = ("env_id", "agent_1_id", "agent_2_id")
DERIVED = {"scenario", "codename", "agents_background", "social_goals", "social_interactions"}
"""What the published shape repeats from the profiles and the messages."""
IMPORTED = "imported"
"""The entry of an episode's settings with what was in the file and has no field here."""


MOST_LEVELS = 190
"""How deep an object may be nested: pydantic writes 255 levels, but reads only 200 of them back."""


class NotAnEntry(ValueError):
    """An object is neither an episode nor a profile, or a field is missing or wrong."""


def kind_of(data: dict[str, Any]) -> str:
    """Return what an object is, by its fields."""
    for kind, marks in MARKS:
        if marks <= data.keys():
            return kind
    found = ", ".join(sorted(data)[:6]) or "nothing"
    raise NotAnEntry(f"expected an episode, scenario, character, relationship or combo, found the fields {found}")


def to_entry(data: Any, kind: str | None = None) -> Entry:
    """Return the entry for an object.

    Args:
        data: the object.
        kind: what it is, where that is known; otherwise its fields decide.

    Raises:
        NotAnEntry: if it is none of ours, or a field is missing or of the wrong kind.
    """
    if not isinstance(data, dict):
        raise NotAnEntry(f"expected an object, found {type(data).__name__}")
    kind = kind or kind_of(data)
    _check_levels(data)
    try:
        if kind == "episodes":
            episode = to_episode(data)
            # Unknown fields have moved two levels down; what is exported must be importable.
            _check_levels({"settings": episode.settings, "usage": episode.usage})
            _check_ids(episode.pk, episode.tag, episode.environment, *episode.agents, episode.source_episode)
            return "episodes", episode
        profile = to_profile(cast(ProfileKind, kind), data)
    except ValidationError as err:
        raise NotAnEntry(f"{kind.removesuffix('s')} {first_reason(err)}") from err
    agents = profile["agent_ids"] if kind == "combos" else []
    _check_ids(profile["pk"], *(profile.get(name) for name in PROFILE_IDS), *agents)
    return cast(ProfileKind, kind), profile


def _check_levels(data: dict[str, Any]) -> None:
    """Refuse an object that is nested deeper than can be stored and read again."""
    level = 0
    values: list[Any] = [data]
    while values:
        level += 1
        if level > MOST_LEVELS:
            raise NotAnEntry(f"the object is nested too deeply, expected at most {MOST_LEVELS} levels")
        inner = (value.values() if isinstance(value, dict) else value for value in values)
        values = [item for items in inner for item in items if isinstance(item, dict | list | tuple)]


def _check_ids(*ids: Any) -> None:
    """Refuse an id with a character by which SQLite's JSON functions end a text."""
    for found in ids:
        if isinstance(found, str) and "\0" in found:
            raise NotAnEntry(f"the id or tag {found!r} holds a NUL character, expected none")


def to_episode(data: dict[str, Any]) -> Episode:
    """Read an episode: an EpisodeLog, the published shape, or an export of ours."""
    if "raw_messages" in data:
        derived = DERIVED | {"rewards"} if "raw_rewards" in data else DERIVED
        shared = {name: value for name, value in data.items() if name not in derived}
        data = {PUBLISHED_EPISODE.get(name, name): value for name, value in shared.items()}
    known = {name: value for name, value in data.items() if name in Episode.model_fields and value is not None}
    rest = {name: value for name, value in data.items() if name not in Episode.model_fields}
    rewards = known.get("rewards", [])
    is_empty = not any(rewards) if isinstance(rewards, list | tuple) else not rewards
    if "status" not in known and not has_verdicts(rewards, known.get("agents")) and not is_empty:
        rest["rewards"] = rewards
    if known.get("status", "scored") != "scored":
        known["rewards"] = []
    settings = known.get("settings", {})
    if rest and isinstance(settings, dict):
        known["settings"] = {**settings, IMPORTED: rest}
    # Two plain logs without a pk are the same episode only if all of them is the same.
    known["pk"] = known.get("pk") or pk_of(json.dumps(data, sort_keys=True))
    return Episode(**{"created": None, **known})
