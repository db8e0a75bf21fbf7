"""Instances of one environment for episodes in flight: made when needed, used again, closed together.

Comes in: what makes an instance. Goes out: an instance for an episode, whose calls run in threads of the pool's own.
Invariant: an instance that failed, or may still be at work, is never used again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec, TypeVar

from sotopia_sdpo.envs.protocol import Environment
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.text import one_line


P = ParamSpec("P")
T = TypeVar("T")


class EnvironmentFault(Exception):
    """An environment failed; one line that says how."""


class Pool:
    """The instances; close it, or use it in a `with`."""

    def __init__(self, make: Callable[[], Environment], size: int) -> None:
        """Take what makes an instance, and how many episodes are in flight."""
        self._make = make
        self._free: list[Environment] = []
        self._all: list[Environment] = []
        self._threads = ThreadPoolExecutor(size, "environment")

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Environment]:
        """Give an instance to one episode.

        Raises:
            UserError: if none can be made.
        """
        instance = self._free.pop() if self._free else await self.call(self._made)
        is_sound = True
        try:
            yield instance
        except (EnvironmentFault, asyncio.CancelledError):
            is_sound = False
            raise
        finally:
            if is_sound:
                self._free.append(instance)
            else:
                self._discard(instance)

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of an instance in a thread.

        Raises:
            EnvironmentFault: if it fails, in whatever way: an environment is a program of others.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: method(*args, **kwargs))
        except UserError:
            raise
        except Exception as err:
            raise EnvironmentFault(f"the environment failed: {one_line(f'{type(err).__name__}: {err}')}") from err

    def close(self) -> None:
        """Close all instances, also those that are in use."""
        for instance in list(self._all):
            self._discard(instance)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self) -> Environment:
        instance = self._make()
        self._all.append(instance)
        return instance

    def _discard(self, instance: Environment) -> None:
        if instance not in self._all:
            return
        self._all.remove(instance)
        # One that has failed may fail at this too.
        with suppress(Exception):
            instance.close()
