"""Answers of models in the Redis of the episodes, for scripts on any number of hosts.

Comes in: a URL, and a file of answers from before, which is read where the Redis has none. Goes out: kept answers
(`llm/kept.py` has the contract). Invariant: an answer is written where there is none, and by nobody replaced; how
durable it is against the death of the server is the server's setting (`appendonly yes`).
"""

import json
import time
import uuid
from collections.abc import Iterable

from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.cache import AnswerCache
from sotopia_sdpo.llm.kept import CLAIM_TTL_S, KeptAnswers, Request
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.store.paging import pages
from sotopia_sdpo.store.redis.server import RedisServer
from sotopia_sdpo.store.stored import damage_told


ANSWER = "answer"
PAGE_CLAIMS = 1000


class RedisAnswers(RedisServer, KeptAnswers):
    """The answers of one server."""

    SCRIPTS = ("CLAIM", "RENEW", "RELEASE", "GIVE_UP")

    def __init__(self, url: str, earlier: AnswerCache | None = None) -> None:
        """Open the server.

        Raises:
            UserError: if it cannot be used, or drops what it holds when it is full.
        """
        super().__init__(url)
        self.check_keeps()
        self.owner = uuid.uuid4().hex
        self._earlier = earlier
        self._held: set[str] = set()

    def get(self, request: Request) -> Answer | None:
        """Look an answer up, also in the file from before."""
        name = self._name(ANSWER, request.key)
        with self._explained():
            text = self._redis.get(name)
        if text is not None:
            return self._answer(name, text)
        found = self._earlier.get(request) if self._earlier else None
        return self.put(request, found) if found else None

    def put(self, request: Request, answer: Answer) -> Answer:
        """Keep an answer, unless there is one already, and return the one that is kept."""
        name = self._name(ANSWER, request.key)
        said = {"request": request._asdict(), "answer": answer.text, "usage": answer.usage}
        text = json.dumps({**said, "is_simulated": answer.is_simulated, "created": time.time()})
        with self._explained(), self._redis.pipeline() as pipeline:
            pipeline.set(name, text, nx=True)
            pipeline.get(name)
            kept = pipeline.execute()[1]
        return self._answer(name, kept)

    def claim(self, request: Request) -> bool:
        """Take the right to make a call; return whether no other owner has it."""
        is_ours = bool(self._run("CLAIM", _at(request), self.owner, int(CLAIM_TTL_S * 1000)))
        if is_ours:
            self._held.add(_at(request))
        return is_ours

    def renew(self) -> None:
        """Prolong all claims of this owner; one that ran out and that nobody took is its own again."""
        for page in pages(list(self._held), PAGE_CLAIMS):
            self._run("RENEW", self.owner, int(CLAIM_TTL_S * 1000), *page)

    def release(self, request: Request) -> None:
        """Give a claim back, if it is this owner's."""
        self._held.discard(_at(request))
        self._run("RELEASE", self.owner, _at(request))

    def round(self, request: Request) -> int:
        """Return how many finished runs have given a question up, here or in the file from before."""
        with self._explained():
            here = int(self._redis.hget(self._name("rounds"), request.key) or 0)
        return max(here, self._earlier.round(request) if self._earlier else 0)

    def give_up(self, requests: Iterable[Request]) -> None:
        """End a run in which these questions got no usable answer."""
        for page in pages(sorted({request.key for request in requests}), PAGE_CLAIMS):
            self._run("GIVE_UP", uuid.uuid4().hex, *page)

    def close(self) -> None:
        """Close the connections, and the file from before."""
        super().close()
        if self._earlier:
            self._earlier.close()

    def _answer(self, name: str, text: str) -> Answer:
        """Return an answer from its JSON."""
        with damage_told(f"{self.url}: key {name}", "delete it to have the question asked again"):
            found = json.loads(text)
            return Answer(found["answer"], Usage(*found["usage"]), found["is_simulated"])


def _at(request: Request) -> str:
    """Return what a claim on a call is called; claims on episodes begin with a bracket."""
    return f"{ANSWER}:{request.key}"
