"""What every place that keeps answers of models can do: a file of ours (`cache.py`), or the Redis of the episodes.

A script that is run again goes on where it stopped and pays for no answer twice. Comes in: a request and its answer.
Goes out: the answer, whenever the same is asked again, by whatever process. A call is claimed before it is made, so
that processes which run at once do not make it twice; a claim that is not renewed runs out.
Invariant: a request has one answer, the first. What should be asked afresh has other settings (`round`).
"""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

from sotopia_sdpo.llm.answers import Answer


T = TypeVar("T")
CLAIM_TTL_S = 12.0
"""How long the calls of a killed process are left to it."""


class Request(NamedTuple):
    """What an answer depends on."""

    model: str
    """Without its address for a server of the user's own, which may move."""
    messages: list[dict[str, str]]
    settings: dict[str, Any]

    @property
    def text(self) -> str:
        """All of it as one text."""
        return json.dumps(self._asdict(), ensure_ascii=False, sort_keys=True)

    @property
    def key(self) -> str:
        """The name of its answer."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class KeptAnswers(ABC):
    """Answers, and claims on calls, of one owner; use it in a `with`.

    Methods block for a moment, or for as long as a server that is gone, or another process that writes to the file,
    is waited for; a UserError says that the place cannot be used.
    """

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        """One thread, so that calls come in the order in which they are made."""
        return ThreadPoolExecutor(1)

    async def aside(self, method: Callable[..., T], *arguments: Any) -> T:
        """Call a method; what is waited for meanwhile holds up nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, method, *arguments)

    @abstractmethod
    def get(self, request: Request) -> Answer | None:
        """Look an answer up."""

    @abstractmethod
    def put(self, request: Request, answer: Answer) -> Answer:
        """Keep an answer, unless there is one already, and return the one that is kept."""

    @abstractmethod
    def claim(self, request: Request) -> bool:
        """Take the right to make a call; return whether no other owner has it."""

    @abstractmethod
    def renew(self) -> None:
        """Prolong all claims of this owner."""

    @abstractmethod
    def release(self, request: Request) -> None:
        """Give a claim back, if it is this owner's."""

    @abstractmethod
    def round(self, request: Request) -> int:
        """Return how many finished runs have given a question up; each later one asks in a round of its own."""

    @abstractmethod
    def give_up(self, requests: Iterable[Request]) -> None:
        """End a run in which these questions, each by its first request, got no usable answer."""

    def wait_no_more(self) -> None:
        """Wait no longer for a server that is gone, also in a call that is under way."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of the place."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
        self.close()
