"""Spread the calls for one model over its endpoints, by load.

Invariant: an endpoint that has just failed is the last choice until its rest is over, and then it is given one call at
a time until one succeeds; a chat stays where its prefix is cached unless another endpoint is clearly less busy.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from sotopia_sdpo.llm.backends import Transient


REST_S = 10.0
AFFINITY_WORTH = 2
"""Calls that another endpoint must have less in flight before a chat moves there."""
MAX_REMEMBERED = 10_000


class Endpoints:
    """The endpoints of one model and what is in flight at each."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        """Start with none in flight."""
        self.in_flight = dict.fromkeys(urls, 0)
        self.served = dict.fromkeys(urls, 0)
        self._resting_until = dict.fromkeys(urls, 0.0)
        self._failing: set[str] = set()
        self._home: OrderedDict[str, str] = OrderedDict()

    @contextmanager
    def lease(self, affinity: str) -> Iterator[str]:
        """Choose an endpoint for one call; one that fails is not chosen for a while."""
        url = self._choose(affinity)
        self.in_flight[url] += 1
        self.served[url] += 1
        try:
            yield url
        except Transient:
            self._resting_until[url] = time.monotonic() + REST_S
            self._failing.add(url)
            raise
        else:
            self._failing.discard(url)
        finally:
            self.in_flight[url] -= 1

    def _choose(self, affinity: str) -> str:
        now, home = time.monotonic(), self._home.get(affinity)

        def burden(url: str) -> tuple[bool, int, int]:
            load = self.in_flight[url] - AFFINITY_WORTH * (url == home)
            is_tried = url in self._failing and self.in_flight[url] > 0
            return is_tried or self._resting_until[url] > now, load, self.served[url]

        url = min(self.in_flight, key=burden)
        if affinity:
            self._home[affinity] = url
            if len(self._home) > MAX_REMEMBERED:
                self._home.popitem(last=False)
        return url
