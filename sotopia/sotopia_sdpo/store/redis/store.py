"""Episodes, profiles and claims in any Redis, for any number of processes on any number of hosts.

What may not be interrupted is a Lua script (scripts, which also lists the keys). A redis-stack's documents that
redis-om wrote are read as well (documents); ours go before theirs where both have one pk. How durable an episode is
against the death of the server is the server's setting (`appendonly yes`).
"""

import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import PROFILE_KINDS, Entry, LostTexts, Profile, ProfileKind, Store, StoreCounts
from sotopia_sdpo.store.episode import Episode, EpisodeHead, Status
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.paging import pages
from sotopia_sdpo.store.redis.documents import ForeignDocuments
from sotopia_sdpo.store.redis.forms import RANK, at_of, best_of, put_arguments, staged_form
from sotopia_sdpo.store.redis.scripts import LONGEST_CLAIM_MS
from sotopia_sdpo.store.redis.server import RedisServer
from sotopia_sdpo.store.stored import damage_told, head_from, stored_episode, stored_profile


PAGE_EPISODES = 50
PAGE_ENTRIES = 200
PAGE_COMMANDS = 1000
GLOB = re.compile(r"[][*?^\\-]")
STAGED_FOR_S = 3600
"""How long the entries of an import that died are kept."""


class RedisStore(RedisServer, Store):
    """A store in a Redis server."""

    SCRIPTS = ("PUT", "COMMIT", "CLAIM", "RENEW", "RELEASE", "DELETE", "FORGET")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        with self._explained():
            self._foreign = ForeignDocuments(self._redis)

    def check_whole(self) -> None:
        """Look for heads without texts and, among all keys of the server, for texts without heads."""
        texts = self._text_pks()
        with self._explained():
            heads = {head.pk for head in self._own_heads(self._redis.smembers(self._name("tags")))}
        self._check_not_lost(heads ^ texts)

    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        """Write one episode, replacing the one of its pk; with an owner, only while it holds the claim."""
        self.check_keeps()
        return bool(self._run("PUT", owner or "", *put_arguments(episode)))

    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Collect the entries in a list of their own on the server, then have them taken over in one step."""
        self.check_keeps()
        number = uuid.uuid4().hex
        staged, count = self._name("staged", number), 0
        try:
            for page in pages(entries, PAGE_ENTRIES):
                forms: dict[str | bytes, Any] = {
                    str(index): staged_form(entry) for index, entry in enumerate(page, count)
                }
                count += len(page)
                with self._explained(), self._redis.pipeline() as pipeline:
                    pipeline.hset(staged, mapping=forms)
                    pipeline.expire(staged, STAGED_FOR_S)
                    pipeline.execute()
            taken = self._run("COMMIT", number, count)
            if taken != count:
                raise UserError(f"{self.url}: {taken} of {count} records arrived, nothing was written; try again")
        except BaseException:
            with self._explained():
                self._redis.delete(staged)
            raise

    def get_episode(self, pk: str) -> Episode | None:
        """Read one episode."""
        with self._explained():
            text = self._redis.hget(self._name("episode", pk), "text")
            found = self._foreign.episode(pk) if text is None else stored_episode(text, self.url, pk)
        if found is None:
            self._check_not_lost([pk])
        return found

    def episodes(self, tag: str | None = None, status: Status | None = None) -> Iterator[Episode]:
        """Read episodes page by page; without a tag also those whose head a full server has dropped."""
        # First the texts: whatever was written before has its head by then.
        texts_there = self._text_pks() if tag is None else set()
        statuses = {head.pk: head.status for head in self.heads(None if tag is None else [tag])}
        wanted = (pk for pk in sorted(statuses.keys() | texts_there) if status in (None, statuses.get(pk, status)))
        without_text = []
        for page in pages(wanted, PAGE_EPISODES):
            with self._explained():
                texts = self._pipelined(("HGET", self._name("episode", pk), "text") for pk in page)
                missing = [pk for pk, text in zip(page, texts, strict=True) if text is None]
                foreign = {episode.pk: episode for episode in self._foreign.episodes(missing)}
            for pk, text in zip(page, texts, strict=True):
                if text is not None:
                    episode = stored_episode(text, self.url, pk)
                    if pk in statuses or status in (None, episode.status):
                        yield episode
                elif pk in foreign:
                    yield foreign[pk]
                else:
                    without_text.append(pk)
        self._check_not_lost(without_text)

    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        """Read heads, those of all tags in one exchange."""
        with self._explained():
            wanted = self._redis.smembers(self._name("tags")) if tags is None else set(tags)
            own = self._own_heads(wanted)
            foreign = self._foreign.heads()
            known = self._known(foreign)
        heads = {head.pk: head for head in foreign.values() if head.pk not in known}
        heads = {pk: head for pk, head in heads.items() if tags is None or head.key.tag in tags}
        heads.update((head.pk, head) for head in own)
        return [heads[pk] for pk in sorted(heads)]

    def find_keys(self, keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        """Find which keys have an episode, in one exchange for the pks and one for the heads."""
        with self._explained():
            tries = self._pipelined(("HGETALL", self._name("at", at_of(key))) for key in keys)
            best = {key: best_of(found) for key, found in zip(keys, tries, strict=True) if found}
            texts = self._pipelined(("HGET", self._name("heads", key.tag), pk) for key, pk in best.items())
            wanted = set(keys)
            foreign = [head for head in self._foreign.heads().values() if head.key in wanted]
            known = self._known(head.pk for head in foreign)
        pairs = zip(best.items(), texts, strict=True)
        heads = [self._head(key.tag, pk, text) for (key, pk), text in pairs if text is not None]
        heads += [head for head in foreign if head.pk not in known]
        heads.sort(key=lambda head: (RANK[head.status], head.pk), reverse=True)
        return {head.key: head for head in heads}

    def delete_episodes(self, pks: Collection[str]) -> int:
        """Delete episodes by pk."""
        count = 0
        for page in pages(pks, PAGE_COMMANDS):
            with self._explained():
                foreign = self._foreign.delete(page) - self._known(page)
            count += len(foreign) + self._run("DELETE", *page)
        return count

    def delete_tag(self, tag: str) -> int:
        """Delete all episodes of a tag, a thousand at a time, also those that have lost their text."""
        heads = self.heads([tag])
        count = self.delete_episodes([head.pk for head in heads])
        for page in pages(heads, PAGE_COMMANDS):
            count += self._run("FORGET", tag, *(part for head in page for part in (head.pk, at_of(head.key))))
        return count

    def get_profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile."""
        with self._explained():
            text = self._redis.hget(self._name("profiles", kind), pk)
            return self._foreign.profile(kind, pk) if text is None else stored_profile(text, self.url, kind, pk)

    def profiles(self, kind: ProfileKind) -> Iterator[Profile]:
        """Read all profiles of a kind."""
        with self._explained():
            texts = self._redis.hgetall(self._name("profiles", kind))
            own = {pk: stored_profile(text, self.url, kind, pk) for pk, text in texts.items()}
            profiles = {**self._foreign.profiles(kind), **own}
        yield from (profiles[pk] for pk in sorted(profiles))

    def counts(self) -> StoreCounts:
        """Count what is there."""
        profiles: dict[ProfileKind, int] = {}
        with self._explained():
            for kind in PROFILE_KINDS:
                foreign = self._foreign.profile_pks(kind)
                pks = foreign.union(self._redis.hkeys(self._name("profiles", kind))) if foreign else None
                profiles[kind] = self._redis.hlen(self._name("profiles", kind)) if pks is None else len(pks)
        by_tag: dict[str, dict[Status, int]] = {}
        for head in sorted(self.heads(), key=lambda head: (head.key.tag, head.status)):
            statuses = by_tag.setdefault(head.key.tag, {})
            statuses[head.status] = statuses.get(head.status, 0) + 1
        return StoreCounts({kind: number for kind, number in profiles.items() if number}, by_tag)

    def claim(self, key: EpisodeKey, owner: str, ttl_s: float) -> bool:
        """Take a key, unless another holds it or a scored episode has it."""
        self.check_keeps()
        return bool(self._run("CLAIM", at_of(key), owner, int(ttl_s * 1000)))

    def renew(self, keys: Collection[EpisodeKey], owner: str, ttl_s: float) -> set[EpisodeKey]:
        """Prolong the claims that are still the owner's; one that ran out and that nobody took is its own again."""
        by_at = {at_of(key): key for key in keys}
        kept: set[EpisodeKey] = set()
        for page in pages(by_at, PAGE_COMMANDS):
            kept.update(by_at[at] for at in self._run("RENEW", owner, int(ttl_s * 1000), *page))
        return kept

    def release(self, keys: Collection[EpisodeKey], owner: str) -> None:
        """Release claims."""
        for page in pages(map(at_of, keys), PAGE_COMMANDS):
            self._run("RELEASE", owner, *page)

    def claimers(self, tag: str) -> set[str]:
        """Return who holds claims on episodes of a tag; looks at the names of all keys."""
        # A claim's key ends in the episode's, which is JSON that begins with the tag.
        prefix = self._name("claim", f"[{json.dumps(tag, ensure_ascii=False)},")
        with self._explained():
            seconds, microseconds = self._redis.time()
            names = list(self._redis.scan_iter(f"{_literally(prefix)}*", count=PAGE_COMMANDS))
            claims = [claim.partition(" ") for claim in (self._redis.mget(names) if names else []) if claim]
        now_ms = seconds * 1000 + microseconds // 1000
        return {owner for until_ms, _, owner in claims if 0 < abs(int(until_ms)) - now_ms <= LONGEST_CLAIM_MS}

    def _pipelined(self, commands: Iterable[tuple[str, ...]]) -> list[Any]:
        """Send commands together and return their answers in order."""
        pipeline: Any
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute())

    def _known(self, pks: Iterable[str]) -> set[str]:
        """Return which of these episodes are ours."""
        listed = list(pks)
        found = self._pipelined(("EXISTS", self._name("episode", pk)) for pk in listed)
        return {pk for pk, there in zip(listed, found, strict=True) if there}

    def _text_pks(self) -> set[str]:
        """Find which texts there are, among all keys of the server."""
        prefix = self._name("episode", "")
        with self._explained():
            return {
                key.removeprefix(prefix)
                for key in self._redis.scan_iter(f"{_literally(prefix)}*", count=PAGE_COMMANDS)
            }

    def _own_heads(self, tags: Iterable[str]) -> list[EpisodeHead]:
        """Read our heads of some tags in one exchange."""
        listed = list(tags)
        found = self._pipelined(("HGETALL", self._name("heads", tag)) for tag in listed)
        return [
            self._head(tag, pk, text) for tag, heads in zip(listed, found, strict=True) for pk, text in heads.items()
        ]

    def _head(self, tag: str, pk: str, text: str) -> EpisodeHead:
        """Return a head from its JSON."""
        place = f"{self.url}: field {pk} of the hash {self._name('heads', tag)}"
        with damage_told(place, "delete this field, then import or sample the episode again"):
            return head_from(*json.loads(text))

    def _check_not_lost(self, pks: Collection[str]) -> None:
        """Raise LostTexts for those of some episodes that have a head or a text, not both."""
        with self._explained():
            tags = list(self._redis.smembers(self._name("tags"))) if pks else []
            lost = [pk for page in pages(sorted(pks), PAGE_COMMANDS) for pk in self._torn(page, tags)]
        if lost:
            raise LostTexts(
                f"{self.url}: {len(lost)} episodes have lost their text or their head, first {lost[0]}: a full server"
                " drops them unless its maxmemory-policy is noeviction; set that, then `sotopia db export` writes all"
                " texts that are left, importing them brings their heads back, and `sotopia db delete --tag` clears"
                " a tag to sample again"
            )

    def _torn(self, pks: list[str], tags: list[str]) -> list[str]:
        """Return which of some episodes have one half now; each is looked at in one step, as writers write it."""
        pipeline: Any
        with self._redis.pipeline() as pipeline:
            for pk in pks:
                pipeline.exists(self._name("episode", pk))
                for tag in tags:
                    pipeline.hexists(self._name("heads", tag), pk)
            found = list(pages(pipeline.execute(), 1 + len(tags)))
        return [pk for pk, (text, *heads) in zip(pks, found, strict=True) if bool(text) != any(heads)]


def _literally(text: str) -> str:
    """Return the pattern that matches a text alone."""
    return GLOB.sub(r"\\\g<0>", text)
