"""The documents that upstream wrote into a redis-stack through redis-om, read in place.

Comes in: a connection. Goes out: their episodes and profiles. Invariant: they are only read, or
deleted where the user asks for it; a server without the JSON commands simply has none.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import redis

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import Profile, ProfileKind
from sotopia_sdpo.store.documents import CLASS_OF, NotAnEntry, to_entry
from sotopia_sdpo.store.episode import Episode, EpisodeHead
from sotopia_sdpo.store.paging import pages
from sotopia_sdpo.store.stored import damage_told


SCAN_COUNT = 1000
PAGE_DOCUMENTS = 50
NO_KEY = "sdpo:no-such-key"


class ForeignDocuments:
    """Upstream's documents of one server."""

    def __init__(self, connection: "redis.Redis[str]") -> None:
        self._connection = connection
        self._has_json = _has_json(connection)
        self._heads: dict[str, EpisodeHead] = {}

    def episode(self, pk: str) -> Episode | None:
        """Read one episode."""
        return next(self._read("episodes", pk), None)

    def episodes(self, pks: Iterable[str]) -> Iterator[Episode]:
        """Read these episodes, as far as they are there."""
        keys = self._keys("episodes") if self._has_json else {}
        for page in pages((keys[pk] for pk in pks if pk in keys), PAGE_DOCUMENTS):
            yield from self._documents("episodes", page)

    def heads(self) -> dict[str, EpisodeHead]:
        """Read the heads by pk; a document is read once, since upstream writes each once."""
        keys = self._keys("episodes")
        new = [pk for pk in keys if pk not in self._heads]
        self._heads.update((episode.pk, episode.head) for episode in self.episodes(new))
        self._heads = {pk: head for pk, head in self._heads.items() if pk in keys}
        return dict(self._heads)

    def profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile."""
        return next(self._read(kind, pk), None)

    def profiles(self, kind: ProfileKind) -> dict[str, Profile]:
        """Read all profiles of a kind by pk."""
        return {profile["pk"]: profile for profile in self._documents(kind, list(self._keys(kind).values()))}

    def profile_pks(self, kind: ProfileKind) -> set[str]:
        """Return the pks of all profiles of a kind."""
        return set(self._keys(kind))

    def delete(self, pks: Iterable[str]) -> set[str]:
        """Delete episodes and return those that were there."""
        keys = self._keys("episodes")
        return {pk for pk in pks if pk in keys and self._connection.delete(keys[pk])}

    def _keys(self, kind: str) -> dict[str, str]:
        """Find the keys of a kind by pk; keys of redis-om's indices have more parts."""
        if not self._has_json:
            return {}
        ending = f".{CLASS_OF[kind]}:"
        found = self._connection.scan_iter(match=f"*{ending}*", count=SCAN_COUNT)
        parted = (key.rpartition(ending) for key in found)
        return {pk: f"{before}{ending}{pk}" for before, _, pk in parted if pk and ":" not in pk}

    def _read(self, kind: str, pk: str) -> Iterator[Any]:
        """Read the document of a pk, if there is one."""
        if self._has_json:
            # A server holds tens of thousands of keys; the usual name saves looking through all.
            usual = f":{MODULE_OF[kind]}.{CLASS_OF[kind]}:{pk}"
            key = usual if self._connection.exists(usual) else self._keys(kind).get(pk)
            yield from self._documents(kind, [key] if key else [])

    def _documents(self, kind: str, keys: list[str]) -> Iterator[Any]:
        """Read documents by key as episodes or profiles."""
        for page in pages(keys, PAGE_DOCUMENTS):
            pipeline: Any = self._connection.pipeline(transaction=False)
            for key in page:
                pipeline.execute_command("JSON.GET", key)
            for key, text in zip(page, pipeline.execute(), strict=True):
                if text is None:
                    continue
                with damage_told(f"redis key {key}", "mend or delete the document"):
                    data = json.loads(text)
                    data["pk"] = data.get("pk") or key.rpartition(":")[2]
                try:
                    yield to_entry(data, kind)[1]
                except NotAnEntry as err:
                    raise UserError(f"redis key {key}: {err}; mend or delete the document") from err


MODULE_OF = {
    "episodes": "sotopia.database.logs",
    "environments": "sotopia.database.persistent_profile",
    "agents": "sotopia.database.persistent_profile",
    "relationships": "sotopia.database.persistent_profile",
    "combos": "sotopia.database.env_agent_combo_storage",
}


def _has_json(connection: "redis.Redis[str]") -> bool:
    """Return whether the server has the JSON commands."""
    try:
        connection.execute_command("JSON.GET", NO_KEY)
    except redis.ResponseError:
        return False
    return True
