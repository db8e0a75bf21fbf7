"""Tell which sessions are one: an episode that another judge has judged is a copy with a name of its own.

Comes in: episodes, and the names under which people rated sessions. Goes out: one name for every session.
Invariant: two episodes have one name exactly if they have one pk, or every message of one is the other's.
"""

import hashlib
import json
from collections.abc import Collection

from sotopia_sdpo.play.actions import NONE_TEXT
from sotopia_sdpo.play.dialogue import ENVIRONMENT
from sotopia_sdpo.results.people import Facts
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


class Sessions:
    """Names sessions, by those that people know."""

    def __init__(self, known: Collection[str]) -> None:
        """Take the pks of the sessions that people rated."""
        self.known = set(known)
        self._by_text: dict[str, str] = {}

    def learn_from(self, store: Store) -> None:
        """Look the rated sessions up, so that copies of them are recognised."""
        for pk in self.known:
            if (episode := store.get_episode(pk)) is not None:
                self.learn(episode)

    def learn(self, episode: Episode) -> None:
        """Remember a session's text by the name that people know."""
        if episode.pk in self.known and episode.messages:
            self._by_text[_text(episode)] = episode.pk

    def name_of(self, episode: Episode) -> str:
        """Return the name of an episode's session."""
        if episode.pk in self.known or not episode.messages:
            return episode.pk
        text = _text(episode)
        return self._by_text.get(text, text)


def facts_of(episode: Episode) -> Facts:
    """Return how long a stored session is, and whose."""
    said = [
        text
        for turn in episode.messages
        for sender, receiver, text in turn
        if receiver == ENVIRONMENT != sender and text != NONE_TEXT
    ]
    players = episode.players_from(0) or ("", "")
    return Facts(len(said), sum(map(len, said)), players) if said else Facts(models=players)


def _text(episode: Episode) -> str:
    return hashlib.sha256(json.dumps(episode.messages).encode()).hexdigest()
