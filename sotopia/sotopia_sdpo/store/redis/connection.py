"""Connect to the server of a Redis URL, and see what may be shown of it and whether it keeps what it is given.

Comes in: a URL as the user typed it. Goes out: a client that has been answered. Invariant: no message, nor the cause
of one, holds a password or what may be one: of the URL only what `without_password` leaves is shown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.urls import HIDDEN, without_password


CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 120
RETRIES = 3
URL_FORM = "expected redis://HOST:PORT/N, N being a number"
INVALID_VALUE = "Invalid value for "
QUOTED_COMMAND = " of pipeline caused error: "
"""Before it redis-py quotes the whole command, behind it stands what the server said."""
SECRET_SETTINGS = ("password", "ssl_password")
EVICTS_ANYTHING = "allkeys-"
"""The policies under which a full server drops whatever it likes; `volatile-` ones drop no episodes."""


def client_of(url: str) -> "redis.Redis[str]":
    """Return a client for a URL; it connects on its first command."""
    try:
        # redis-py would take database 0 for a path that is no number, and localhost for no host.
        parts = urlsplit(url)
        if not parts.hostname or not re.fullmatch(r"/?\d*", parts.path):
            raise ValueError
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(ExponentialBackoff(), RETRIES),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        )
    except ValueError as err:
        # The one message that names a key of the query and no value.
        why = f"{err}; " if str(err).startswith(INVALID_VALUE) else ""
        raise UserError(f"database URL '{without_password(url)}': {why}{URL_FORM}") from None


def check_answers(client: "redis.Redis[str]", url: str) -> None:
    """Check that the server answers; the URL is the one to show."""
    try:
        client.ping()
    except redis.RedisError:
        raise
    except Exception:  # whatever it is, it may quote a secret
        # Only now redis-py hands the keys of the query on, and what it raises may quote them.
        raise UserError(f"database URL '{url}': its query has a key or a value that redis-py does not take") from None


def secrets_of(client: "redis.Redis[str]") -> list[str]:
    """Return what may not be shown, wherever it stood in the URL."""
    settings = client.connection_pool.connection_kwargs
    return [settings[name] for name in SECRET_SETTINGS if settings.get(name)]


def answer_of(err: redis.RedisError, secrets: Sequence[str]) -> str:
    """Return what the server said, without the command that it answers and without secrets."""
    text = str(err).rpartition(QUOTED_COMMAND)[2]
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text.removesuffix(".")


def evicting_policy(client: "redis.Redis[str]") -> str:
    """Return the policy by which the server drops episodes when it is full; '' if it has none, or will not tell."""
    try:
        settings: Mapping[str, Any] = client.info("memory")
        policy = str(settings.get("maxmemory_policy", ""))
        return policy if settings.get("maxmemory") and policy.startswith(EVICTS_ANYTHING) else ""
    except redis.ResponseError:
        return ""
