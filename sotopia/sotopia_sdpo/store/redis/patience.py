"""Wait for a Redis that is gone for a while.

Comes in: calls of redis-py. Goes out: their results, as soon as the server answers again. Every call may be made
twice, since an answer can be lost on its way: whoever writes sees to it that the second time changes nothing.
Invariant: a call fails PATIENCE_S after its first failure, not before, unless nobody wants to wait any more.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


PATIENCE_S = 60.0
PAUSE_S = 0.5
PASSING = (
    "BUSY ",  # in the middle of a long script, such as the end of a large import
    "MASTERDOWN ",
    "CLUSTERDOWN ",
    "NOREPLICAS ",
)
"""How the answers begin of a server that answers otherwise later."""
READ_ONLY = " -READONLY "
"""What a script says, up to Redis 6, on a server that another has taken over from: a new connection finds that one."""
QUOTED_COMMAND = " of pipeline caused error: "
"""Before it redis-py quotes the whole command, behind it stands what the server said."""

T = TypeVar("T")


class _Here(threading.local):
    """Whether this thread is within a call that waits; redis-py nests its retries."""

    is_inside = False


class Patience(Retry):
    """The retries of all connections of one store."""

    def __init__(self, shown: str) -> None:
        """Take what the server is called in messages; nothing is waited for yet."""
        super().__init__(NoBackoff(), 0)
        self.shown = shown
        self._here = _Here()
        self._is_over = threading.Event()
        self._is_over.set()
        self._lock = threading.Lock()
        self._gone_since: float | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What redis-py has to be given; without its list of errors it would not try again."""
        errors = [redis.ConnectionError, redis.TimeoutError, redis.ResponseError]
        return {"retry": self, "retry_on_error": errors}

    def __deepcopy__(self, memo: object) -> "Patience":
        """Return itself: connections take a copy each, but a server is gone for all of them."""
        return self

    def begin(self) -> None:
        """Wait from now on, since the server has been there."""
        self._is_over.clear()

    def end(self) -> None:
        """Wait no more: every call is made once."""
        self._is_over.set()

    def call_with_retry(self, do: Callable[[], T], fail: Callable[[Exception], Any]) -> T:
        """Make a call until it succeeds.

        Raises:
            redis.RedisError: the last failure.
        """
        if self._here.is_inside:
            return do()
        self._here.is_inside = True
        try:
            return self._until_answered(do, fail)
        finally:
            self._here.is_inside = False

    def _until_answered(self, do: Callable[[], T], fail: Callable[[Exception], Any]) -> T:
        end = None
        while True:
            try:
                result = do()
            except redis.RedisError as err:
                if not _may_pass(err):
                    raise
                fail(err)
                end = end or time.monotonic() + PATIENCE_S
                if self._is_over.is_set() or time.monotonic() > end:
                    raise
                self._tell_gone(err)
                self._is_over.wait(PAUSE_S)
            else:
                self._tell_back()
                return result

    def _tell_gone(self, err: redis.RedisError) -> None:
        """Say once that the server is waited for."""
        with self._lock:
            if self._gone_since is None:
                self._gone_since = time.monotonic()
                why = in_its_own_words(err).removesuffix(".")
                print(f"{self.shown}: {why}; waiting for it, {PATIENCE_S:.0f} s at most", file=sys.stderr, flush=True)

    def _tell_back(self) -> None:
        """Say that it is back, if it was gone."""
        with self._lock:
            if self._gone_since is not None:
                gone_s, self._gone_since = time.monotonic() - self._gone_since, None
                print(f"{self.shown}: answers again after {gone_s:.0f} s", file=sys.stderr, flush=True)


class PatientPool(redis.ConnectionPool):
    """Connections that are waited for; redis-py repeats commands only on those that it has."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a connection that works."""
        patience: Patience = self.connection_kwargs["retry"]
        return patience.call_with_retry(lambda: super(PatientPool, self).get_connection(*args, **options), _nothing)


def _nothing(_: Exception) -> None:
    """Clean up where there is nothing to clean up."""


def _may_pass(err: redis.RedisError) -> bool:
    """Return whether the server may answer later."""
    if isinstance(err, redis.ResponseError):
        text = in_its_own_words(err)
        return isinstance(err, redis.exceptions.ReadOnlyError) or READ_ONLY in text or text.startswith(PASSING)
    return isinstance(err, redis.ConnectionError | redis.TimeoutError) and not isinstance(
        err, redis.AuthenticationError
    )


def in_its_own_words(err: redis.RedisError) -> str:
    """Return what the server said, without the command that it answers."""
    return str(err).rpartition(QUOTED_COMMAND)[2]
