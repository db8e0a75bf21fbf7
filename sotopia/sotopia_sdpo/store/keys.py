"""Keys of episodes: the same work is found again whoever did it and wherever it came from.

Comes in: a tag, a scenario, its agents and, for a replayed session, where it starts. Goes out: an EpisodeKey and
the primary key that belongs to it. Invariant: the same work always has the same key and the same primary key.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


PK_LENGTH = 26
PK_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class EpisodeKey(NamedTuple):
    """What makes an episode the same piece of work, whoever runs it and however often."""

    tag: str
    combo: str
    """Scenario, agents and, for a replayed one, source and location: see combo_key."""
    position: int
    """Where the target agent sits; 0 also where both sides are the same model, or the role is unknown."""
    trial: int

    @property
    def pk(self) -> str:
        """The primary key of the episode of this key."""
        return pk_of("\x1f".join(map(str, self)))


def pk_of(text: str) -> str:
    """Return the primary key for a text: 26 characters in the alphabet of a ULID."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return "".join(PK_ALPHABET[number >> 5 * place & 31] for place in reversed(range(PK_LENGTH)))


def combo_key(
    environment: str, agents: Sequence[str], source_episode: str | None = None, location: int | None = None
) -> str:
    """Return the key of a combo: what it is made of, so that episodes of a published database are found too."""
    origin = [] if source_episode is None else [source_episode]
    place = [] if location is None else [f"@{location}"]
    return "/".join([environment, *agents, *origin, *place])
