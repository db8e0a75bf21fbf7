"""A Redis server that is used: its connections, our scripts on it, and its errors in one line.

Comes in: a URL as the user typed it. Goes out: what the stores of episodes and of answers have in common. Invariant: a
server that drops what it is given, or speaks no Redis, is one line that says what to do.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import redis

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.redis import scripts
from sotopia_sdpo.store.redis.connection import (
    answer_of,
    check_answers,
    evicting_policy,
    forgets,
    open_url,
    remedy_for,
    secrets_of,
)
from sotopia_sdpo.store.redis.patience import Patience
from sotopia_sdpo.store.urls import without_password


class RedisServer:
    """The server of a URL."""

    SCRIPTS: ClassVar[tuple[str, ...]] = ()
    """The names of the scripts that are run."""

    def __init__(self, url: str) -> None:
        self.url = without_password(url)
        self._patience = Patience(self.url)
        self._redis, prefix = open_url(url, self._patience)
        self._prefix = prefix + scripts.PREFIX
        self._secrets = secrets_of(self._redis)
        with self._explained():
            check_answers(self._redis, self.url)
            self._patience.begin()
            self._policy = evicting_policy(self._redis)
            self._is_to_be_told = forgets(self._redis)
            self._scripts = {name: self._redis.register_script(getattr(scripts, name)) for name in self.SCRIPTS}

    def check_keeps(self) -> None:
        """Refuse a server that drops what it holds when it is full."""
        if self._policy:
            raise UserError(
                f"{self.url}: maxmemory-policy is {self._policy}, expected noeviction: a full server would drop"
                " episodes; `redis-cli config set maxmemory-policy noeviction`, or name another database"
            )
        if self._is_to_be_told:
            self._is_to_be_told = False
            print(
                f"note: {self.url}: the server writes nothing to its disk, so what is stored is lost when it ends;"
                " `redis-cli config set appendonly yes` keeps it",
                file=sys.stderr,
            )

    def wait_no_more(self) -> None:
        """Make every call once from now on, also those that are being waited for."""
        self._patience.end()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _run(self, name: str, *arguments: str | int) -> Any:
        """Run one of our scripts."""
        with self._explained():
            return self._scripts[name](keys=[self._prefix], args=arguments)

    def _name(self, *parts: str) -> str:
        """Return one of our keys by its parts."""
        return self._prefix + ":".join(parts)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise an error of the server as a UserError of one line."""
        try:
            yield
        except UnicodeDecodeError as err:
            raise UserError(f"{self.url}: a stored text is damaged: it is not UTF-8 ({err.reason})") from err
        except redis.RedisError as err:
            said = answer_of(err, self._secrets)
            if remedy := remedy_for(err, self._redis):
                raise UserError(f"{self.url}: {said}; {remedy}") from None
            raise UserError(f"{self.url}: the server answered: {said}") from None
