"""What every store can do, whatever keeps it.

Comes in: episodes, and profiles of four kinds in upstream's shape. Goes out: the same, whole or as heads, from SQLite
or any Redis behind one interface. Invariant: every method that writes is one atomic step, so a process killed between
two calls leaves a store that is right; an episode that is being run is claimed by one owner, and a dead owner's claim
runs out.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, NamedTuple, Self, get_args

from sotopia_sdpo.errors import EXIT_INCOMPLETE, UserError
from sotopia_sdpo.store.episode import Episode, EpisodeHead, Status
from sotopia_sdpo.store.keys import EpisodeKey


ProfileKind = Literal["environments", "agents", "relationships", "combos"]
PROFILE_KINDS: tuple[ProfileKind, ...] = get_args(ProfileKind)
Profile = dict[str, Any]
Entry = tuple[Literal["episodes"], Episode] | tuple[ProfileKind, Profile]
"""What a store takes: an episode or a profile, after its kind."""


class LostTexts(UserError):
    """Some episodes have a head and no text, or the other way round; everything else has been read before."""

    exit_code = EXIT_INCOMPLETE


class StoreCounts(NamedTuple):
    """What a store holds."""

    profiles: dict[ProfileKind, int]
    episodes: dict[str, dict[Status, int]]
    """By tag, then by status; a status without episodes is absent."""


class Store(ABC):
    """Episodes, profiles and claims in one place, shared by any number of processes.

    Methods block for a moment; they may be called from any thread. Close it, or use it in a `with`.
    """

    url: str
    """Where it is, without a password."""

    def check_keeps(self) -> None:
        """Check that what is written stays; a UserError where the database may drop it."""
        return None

    def wait_no_more(self) -> None:
        """Wait no longer for a server that is gone, also in calls that other threads have made."""
        return None

    def check_whole(self) -> None:
        """Check that every episode has its head and its text; LostTexts otherwise."""
        return None

    @abstractmethod
    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        """Write one episode, replacing the one of its pk.

        With an owner, in one step: only where the owner still holds the claim on the episode's key; earlier tries
        of that key that are not scored go, and the claim is released.

        Returns:
            False, and nothing is written, where the owner has lost the claim.
        """

    @abstractmethod
    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Write many at once, all or none, replacing what has the same pk; the iterable may stream and may raise."""

    @abstractmethod
    def get_episode(self, pk: str) -> Episode | None:
        """Read one episode."""

    @abstractmethod
    def episodes(self, tag: str | None = None, status: Status | None = None) -> Iterator[Episode]:
        """Read episodes in the order of their pk, a few at a time; writes in between do not disturb it.

        Raises:
            LostTexts: after the last one, if some of them have lost their text.
        """

    @abstractmethod
    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        """Read the heads of all episodes of these tags (None: of all) in one query, in the order of their pk."""

    @abstractmethod
    def find_keys(self, keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        """Find in one query which keys have an episode; a scored one is preferred, then an unscored one."""

    @abstractmethod
    def delete_episodes(self, pks: Collection[str]) -> int:
        """Delete episodes by pk and return how many there were."""

    @abstractmethod
    def delete_tag(self, tag: str) -> int:
        """Delete all episodes of a tag and return how many there were."""

    @abstractmethod
    def get_profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile in upstream's shape."""

    @abstractmethod
    def profiles(self, kind: ProfileKind) -> Iterator[Profile]:
        """Read all profiles of a kind in upstream's shape, in the order of their pk."""

    @abstractmethod
    def counts(self) -> StoreCounts:
        """Count what is there."""

    @abstractmethod
    def claim(self, key: EpisodeKey, owner: str, ttl_s: float) -> bool:
        """Take a key for ttl_s seconds, or keep it if it is the owner's already.

        Returns:
            False where another owner's claim is alive, where a scored episode of the key is there by now, and to the
            first who asks for a claim that has run out: it is left to its owner for a quarter of ttl_s more.
        """

    @abstractmethod
    def renew(self, keys: Collection[EpisodeKey], owner: str, ttl_s: float) -> set[EpisodeKey]:
        """Prolong claims and return the keys that are still the owner's; the others were lost."""

    @abstractmethod
    def release(self, keys: Collection[EpisodeKey], owner: str) -> None:
        """Release claims; keys that are not the owner's are left as they are."""

    @abstractmethod
    def claimers(self, tag: str) -> set[str]:
        """Return the owners whose claims on episodes of a tag are alive."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
