"""How episodes' keys and entries are written for a Redis store and its scripts."""

import json

from sotopia_sdpo.store.base import Entry
from sotopia_sdpo.store.episode import Episode, Status
from sotopia_sdpo.store.keys import EpisodeKey


RANK: dict[Status, int] = {"scored": 0, "unscored": 1, "failed": 2}
"""The order in which the episodes of one key are preferred."""


def at_of(key: EpisodeKey) -> str:
    """Return an episode's key as text."""
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def best_of(tries: dict[str, Status]) -> str:
    """Return the pk to show among the episodes of one key."""
    return min(tries, key=lambda pk: (RANK[tries[pk]], pk))


def put_arguments(episode: Episode) -> list[str]:
    """Return what the script needs to write an episode: pk, tag, at, status, head, text."""
    head = episode.head
    return [head.pk, episode.tag, at_of(head.key), head.status, json.dumps(head), episode.model_dump_json()]


def staged_form(entry: Entry) -> str:
    """Return an entry as text for the script that takes an import over."""
    kind, content = entry
    if isinstance(content, Episode):
        return json.dumps(put_arguments(content))
    return json.dumps([kind, content["pk"], json.dumps(content)])
