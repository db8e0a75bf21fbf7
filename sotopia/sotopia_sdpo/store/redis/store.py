"""Episodes, profiles and claims in any Redis, for any number of processes on any number of hosts.

What may not be interrupted is a Lua script (scripts, which also lists the keys). A redis-stack's documents that
redis-om wrote are read as well (documents); ours go before theirs where both have one pk. How durable an episode is
against the death of the server is the server's setting (`appendonly yes`).
"""

import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import PROFILE_KINDS, Entry, Profile, ProfileKind, Store, StoreCounts
from sotopia_sdpo.store.episode import Episode, EpisodeHead, Status
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.store.paging import pages
from sotopia_sdpo.store.redis import scripts
from sotopia_sdpo.store.redis.documents import ForeignDocuments
from sotopia_sdpo.store.urls import without_password


CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 120
RETRIES = 3
PAGE_EPISODES = 50
PAGE_ENTRIES = 200
PAGE_COMMANDS = 1000
STAGED_FOR_S = 3600
"""How long the entries of an import that died are kept."""
RANK: dict[Status, int] = {"scored": 0, "unscored": 1, "failed": 2}


class RedisStore(Store):
    """A store in a Redis server."""

    def __init__(self, url: str) -> None:
        self.url = without_password(url)
        with self._explained():
            self._redis = _connect(url)
            self._foreign = ForeignDocuments(self._redis)
            self._scripts = {
                name: self._redis.register_script(getattr(scripts, name))
                for name in ("PUT", "COMMIT", "CLAIM", "RENEW", "RELEASE", "DELETE")
            }

    def put_episode(self, episode: Episode, owner: str | None = None) -> bool:
        """Write one episode, replacing the one of its pk; with an owner, only while it holds the claim."""
        return bool(self._run("PUT", owner or "", *_put_arguments(episode)))

    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Collect the entries in a list of their own on the server, then have them taken over in one step."""
        number = uuid.uuid4().hex
        staged, count = f"{scripts.PREFIX}staged:{number}", 0
        try:
            for page in pages(entries, PAGE_ENTRIES):
                count += len(page)
                with self._explained(), self._redis.pipeline() as pipeline:
                    pipeline.rpush(staged, *map(_staged, page))
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
            text = self._redis.hget(_name("episode", pk), "text")
            return self._foreign.episode(pk) if text is None else Episode.model_validate_json(text)

    def episodes(self, tag: str | None = None, status: Status | None = None) -> Iterator[Episode]:
        """Read episodes page by page."""
        heads = self.heads(None if tag is None else [tag])
        wanted = (head.pk for head in heads if status is None or head.status == status)
        for page in pages(wanted, PAGE_EPISODES):
            with self._explained():
                texts = self._pipelined(("HGET", _name("episode", pk), "text") for pk in page)
                missing = [pk for pk, text in zip(page, texts, strict=True) if text is None]
                foreign = {episode.pk: episode for episode in self._foreign.episodes(missing)}
            for pk, text in zip(page, texts, strict=True):
                if text is not None:
                    yield Episode.model_validate_json(text)
                elif pk in foreign:
                    yield foreign[pk]

    def heads(self, tags: Collection[str] | None = None) -> list[EpisodeHead]:
        """Read heads, those of all tags in one exchange."""
        with self._explained():
            wanted = self._redis.smembers(_name("tags")) if tags is None else set(tags)
            found = self._pipelined(("HVALS", _name("heads", tag)) for tag in wanted)
            own = [_head(text) for texts in found for text in texts]
            foreign = self._foreign.heads()
            known = self._known(foreign)
        heads = {head.pk: head for head in foreign.values() if head.pk not in known}
        heads = {pk: head for pk, head in heads.items() if tags is None or head.key.tag in tags}
        heads.update((head.pk, head) for head in own)
        return [heads[pk] for pk in sorted(heads)]

    def find_keys(self, keys: Collection[EpisodeKey]) -> dict[EpisodeKey, EpisodeHead]:
        """Find which keys have an episode, in one exchange for the pks and one for the heads."""
        with self._explained():
            tries = self._pipelined(("HGETALL", _name("at", _at(key))) for key in keys)
            best = {key: _best(found) for key, found in zip(keys, tries, strict=True) if found}
            texts = self._pipelined(("HGET", _name("heads", key.tag), pk) for key, pk in best.items())
            wanted = set(keys)
            foreign = [head for head in self._foreign.heads().values() if head.key in wanted]
            known = self._known(head.pk for head in foreign)
        heads = [_head(text) for text in texts if text is not None]
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
        """Delete all episodes of a tag, a thousand at a time."""
        return self.delete_episodes([head.pk for head in self.heads([tag])])

    def get_profile(self, kind: ProfileKind, pk: str) -> Profile | None:
        """Read one profile."""
        with self._explained():
            text = self._redis.hget(_name("profiles", kind), pk)
            return self._foreign.profile(kind, pk) if text is None else json.loads(text)

    def profiles(self, kind: ProfileKind) -> Iterator[Profile]:
        """Read all profiles of a kind."""
        with self._explained():
            own = {pk: json.loads(text) for pk, text in self._redis.hgetall(_name("profiles", kind)).items()}
            profiles = {**self._foreign.profiles(kind), **own}
        yield from (profiles[pk] for pk in sorted(profiles))

    def counts(self) -> StoreCounts:
        """Count what is there."""
        profiles: dict[ProfileKind, int] = {}
        with self._explained():
            for kind in PROFILE_KINDS:
                foreign = self._foreign.profile_pks(kind)
                pks = foreign.union(self._redis.hkeys(_name("profiles", kind))) if foreign else None
                profiles[kind] = self._redis.hlen(_name("profiles", kind)) if pks is None else len(pks)
        by_tag: dict[str, dict[Status, int]] = {}
        for head in sorted(self.heads(), key=lambda head: (head.key.tag, head.status)):
            statuses = by_tag.setdefault(head.key.tag, {})
            statuses[head.status] = statuses.get(head.status, 0) + 1
        return StoreCounts({kind: number for kind, number in profiles.items() if number}, by_tag)

    def claim(self, key: EpisodeKey, owner: str, ttl_s: float) -> bool:
        """Take a key, unless another holds it or a scored episode has it."""
        return bool(self._run("CLAIM", _at(key), owner, int(ttl_s * 1000)))

    def renew(self, keys: Collection[EpisodeKey], owner: str, ttl_s: float) -> set[EpisodeKey]:
        """Prolong the claims that are still the owner's; one that ran out and that nobody took is its own again."""
        by_at = {_at(key): key for key in keys}
        kept: set[EpisodeKey] = set()
        for page in pages(by_at, PAGE_COMMANDS):
            kept.update(by_at[at] for at in self._run("RENEW", owner, int(ttl_s * 1000), *page))
        return kept

    def release(self, keys: Collection[EpisodeKey], owner: str) -> None:
        """Release claims."""
        for page in pages(map(_at, keys), PAGE_COMMANDS):
            self._run("RELEASE", owner, *page)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _run(self, name: str, *arguments: str | int) -> Any:
        """Run one of our scripts."""
        with self._explained():
            return self._scripts[name](args=arguments)

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
        found = self._pipelined(("EXISTS", _name("episode", pk)) for pk in listed)
        return {pk for pk, there in zip(listed, found, strict=True) if there}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise an error of the server as a UserError of one line."""
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as err:
            why = str(err).removesuffix(".")
            raise UserError(f"{self.url}: {why}; check the address and that the server runs") from err
        except redis.RedisError as err:
            raise UserError(f"{self.url}: the server answered: {err}") from err


def _connect(url: str) -> "redis.Redis[str]":
    """Connect, and check that the server answers."""
    parts = urlsplit(url)
    # redis-py would take database 0 for a path that is no number, and localhost for no host.
    if not parts.hostname or not re.fullmatch(r"/?\d*", parts.path):
        raise UserError(f"database URL '{without_password(url)}': expected redis://HOST:PORT/N, N being a number")
    try:
        connection = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(ExponentialBackoff(), RETRIES),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
    except ValueError as err:
        raise UserError(f"database URL '{without_password(url)}': {err}; expected redis://HOST:PORT/N") from err
    connection.ping()
    return connection


def _name(*parts: str) -> str:
    """Return one of our keys by its parts."""
    return scripts.PREFIX + ":".join(parts)


def _at(key: EpisodeKey) -> str:
    """Return an episode's key as text."""
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def _best(tries: dict[str, Status]) -> str:
    """Return the pk to show among the episodes of one key."""
    return min(tries, key=lambda pk: (RANK[tries[pk]], pk))


def _put_arguments(episode: Episode) -> list[str]:
    """Return what the script needs to write an episode: pk, tag, at, status, head, text."""
    head = episode.head
    return [head.pk, episode.tag, _at(head.key), head.status, json.dumps(head), episode.model_dump_json()]


def _staged(entry: Entry) -> str:
    """Return an entry as text for the script that takes an import over."""
    kind, content = entry
    if isinstance(content, Episode):
        return json.dumps(_put_arguments(content))
    return json.dumps([kind, content["pk"], json.dumps(content)])


def _head(text: str) -> EpisodeHead:
    """Return a head from its JSON."""
    pk, key, status, environment, agents, models, agent_position, source, failure = json.loads(text)
    return EpisodeHead(
        pk, EpisodeKey(*key), status, environment, tuple(agents), tuple(models), agent_position, source, failure
    )
