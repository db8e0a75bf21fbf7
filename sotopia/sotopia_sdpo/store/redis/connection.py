"""Connect to the server of a Redis URL, and see what may be shown of it and whether it keeps what it is given.

Comes in: a URL as the user typed it. Goes out: a client of a server that has answered. Invariant: no message, nor the
cause of one, holds a password or what may be one: of the URL only what `without_password` leaves is shown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.redis.patience import Patience, PatientPool, in_its_own_words
from sotopia_sdpo.store.urls import HIDDEN, without_password


CONNECT_TIMEOUT_S = 5
"""Also of the first answer, so that a server that speaks another protocol is found out soon."""
ANSWER_TIMEOUT_S = 20
URL_FORM = "expected redis://HOST:PORT/N, N being a number"
INVALID_VALUE = "Invalid value for "
SECRET_SETTINGS = ("password", "ssl_password")
EVICTS_ANYTHING = "allkeys-"
"""The policies under which a full server drops whatever it likes; `volatile-` ones drop no episodes."""


class Opened(NamedTuple):
    """What a URL names."""

    client: "redis.Redis[str]"
    """Connects on its first command, and waits for a server that is gone."""
    prefix: str
    """What the user's keys begin with; `prefix` in the query, which redis-py does not know."""


def open_url(url: str, patience: Patience) -> Opened:
    """Return what a URL names.

    Raises:
        UserError: if it names nothing.
    """
    try:
        # redis-py would take database 0 for a path that is no number, and localhost for no host.
        parts = urlsplit(url)
        if not parts.hostname or not re.fullmatch(r"/?\d*", parts.path):
            raise ValueError
        pool = PatientPool.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            **patience.settings,
        )
    except ValueError as err:
        # The one message that names a key of the query and no value.
        why = f"{err}; " if str(err).startswith(INVALID_VALUE) else ""
        raise UserError(f"database URL '{without_password(url)}': {why}{URL_FORM}") from None
    prefix = pool.connection_kwargs.pop("prefix", "")
    client: redis.Redis[str] = redis.Redis(connection_pool=pool)  # type: ignore[assignment]  # texts, by the settings
    return Opened(client, prefix)


def check_answers(client: "redis.Redis[str]", shown: str) -> None:
    """Check that the server answers now: what is gone from the beginning may be misspelt, and is not waited for.

    Args:
        client: one for the server.
        shown: its URL as it may be shown.

    Raises:
        UserError: if it cannot be asked at all.
        redis.RedisError: if it does not answer.
    """
    pool = client.connection_pool
    settings = {**pool.connection_kwargs, "socket_timeout": CONNECT_TIMEOUT_S}
    try:
        connection = pool.connection_class(**settings)
        connection.connect()
        connection.disconnect()
    except redis.RedisError:
        raise
    except Exception:  # whatever it is, it may quote a secret
        # Only now redis-py hands the keys of the query on, and what it raises may quote them.
        raise UserError(
            f"database URL '{shown}': its query has a key or a value that redis-py does not take"
        ) from None


def secrets_of(client: "redis.Redis[str]") -> list[str]:
    """Return what may not be shown, wherever it stood in the URL."""
    settings = client.connection_pool.connection_kwargs
    return [settings[name] for name in SECRET_SETTINGS if settings.get(name)]


def answer_of(err: redis.RedisError, secrets: Sequence[str]) -> str:
    """Return what the server said, without the command that it answers and without secrets."""
    text = in_its_own_words(err)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text.removesuffix(".")


def remedy_for(err: redis.RedisError, client: "redis.Redis[str]") -> str:
    """Return what to do about a server that cannot be used; '' where what it said is all there is to say."""
    is_tls = issubclass(client.connection_pool.connection_class, redis.SSLConnection)
    text = str(err)
    if isinstance(err, redis.AuthenticationError):
        return "check the user name and the password of the URL"
    if is_tls and "CERTIFICATE" in text:
        return "name the certificate that vouches for it in the URL: ?ssl_ca_certs=FILE"
    if is_tls and ("SSL" in text or isinstance(err, redis.TimeoutError)):
        return "check the address, and that the server speaks TLS: without it the URL begins with redis://"
    if not is_tls and any(sign in text for sign in ("closed by server", "reset by peer", "Protocol error")):
        return "check the address, and whether the server speaks TLS: then the URL begins with rediss://"
    is_gone = isinstance(err, redis.ConnectionError | redis.TimeoutError)
    return "check the address and that the server runs" if is_gone else ""


def evicting_policy(client: "redis.Redis[str]") -> str:
    """Return the policy by which the server drops episodes when it is full; '' if it has none, or will not tell."""
    try:
        settings: Mapping[str, Any] = client.info("memory")
        policy = str(settings.get("maxmemory_policy", ""))
        return policy if settings.get("maxmemory") and policy.startswith(EVICTS_ANYTHING) else ""
    except redis.ResponseError:
        return ""


def forgets(client: "redis.Redis[str]") -> bool:
    """Return whether the server writes nothing to its disk; False where it will not tell."""
    try:
        has_log = client.info("persistence").get("aof_enabled")
        return not has_log and not client.config_get("save").get("save", "unknown")
    except redis.ResponseError:
        return False
