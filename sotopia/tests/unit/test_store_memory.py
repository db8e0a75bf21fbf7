"""A store made by CONTRIBUTING's recipe, as plain as can be: dictionaries and a list of claims. It keeps the contract."""

import copy
import threading
import time
from collections.abc import Collection, Iterable, Iterator

import pytest
from store_contract import StoreContract

from sotopia_sdpo.sqlite_file import Claim, claimed
from sotopia_sdpo.store.base import Entry, Store, StoreCounts
from sotopia_sdpo.store.episode import Episode, EpisodeHead


class MemoryStore(Store):
    """Everything in one dictionary by (kind, pk); stores that share it are one database."""

    url = "memory://"

    def __init__(self, held, claims) -> None:
        self.held, self.claims, self.lock = held, claims, threading.Lock()

    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        with self.lock:
            if owner is not None:
                if self.claims.get(episode.key, (None,))[0] != owner:
                    return False
                for other in self._all(lambda one: one.key == episode.key and one.status != "scored"):
                    del self.held["episodes", other.pk]
                del self.claims[episode.key]
            self.held["episodes", episode.pk] = episode
            return True

    def put_entries(self, entries: Iterable[Entry]) -> None:
        new = dict(self.held)
        for kind, value in entries:
            new[kind, value.pk if isinstance(value, Episode) else value["pk"]] = value
        self.held.clear()
        self.held.update(new)

    def get_episode(self, pk: str) -> Episode | None:
        return copy.deepcopy(self.held.get(("episodes", pk)))

    def episodes(self, tag=None, status=None) -> Iterator[Episode]:
        yield from self._all(lambda one: tag in (None, one.tag) and status in (None, one.status))

    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        return [one.head for one in self._all(lambda one: tags is None or one.tag in tags)]

    def find_keys(self, keys):
        found = self._all(lambda one: one.key in keys)
        best_last = sorted(found, key=lambda one: ("failed", "unscored", "scored").index(one.status))
        return {one.key: one.head for one in best_last}

    def delete_episodes(self, pks: Collection[str]) -> int:
        return sum(self.held.pop(("episodes", pk), None) is not None for pk in pks)

    def delete_tag(self, tag: str) -> int:
        return self.delete_episodes([one.pk for one in self._all(lambda one: one.tag == tag)])

    def get_profile(self, kind, pk):
        return self.held.get((kind, pk))

    def profiles(self, kind):
        yield from (value for (name, _), value in sorted(self.held.items()) if name == kind)

    def counts(self) -> StoreCounts:
        episodes: dict = {}
        for one in self._all(lambda one: True):
            statuses = episodes.setdefault(one.tag, {})
            statuses[one.status] = statuses.get(one.status, 0) + 1
        kinds = [kind for kind, _ in self.held if kind != "episodes"]
        return StoreCounts({kind: kinds.count(kind) for kind in kinds}, episodes)

    def claim(self, key, owner, ttl_s) -> bool:
        with self.lock:
            if self._all(lambda one: one.key == key and one.status == "scored"):
                return False
            self.claims[key] = claimed(self.claims.get(key), owner, ttl_s)
            return self.claims[key].owner == owner

    def renew(self, keys, owner, ttl_s):
        with self.lock:
            ours = {key for key in keys if self.claims.get(key, (None,))[0] == owner}
            self.claims.update((key, Claim(owner, time.monotonic() + ttl_s)) for key in ours)
            return ours

    def release(self, keys, owner) -> None:
        for key in [key for key in keys if self.claims.get(key, (None,))[0] == owner]:
            del self.claims[key]

    def claimers(self, tag: str) -> set[str]:
        return {claim.owner for key, claim in self.claims.items() if key.tag == tag and claim.is_alive}

    def close(self) -> None:
        """Nothing is open."""

    def _all(self, picks) -> list[Episode]:
        found = [value for (kind, _), value in sorted(self.held.items()) if kind == "episodes" and picks(value)]
        return copy.deepcopy(found)


class TestMemory(StoreContract):
    @pytest.fixture
    def open_again(self):
        held, claims = {}, {}
        return lambda: MemoryStore(held, claims)
