"""Ask a model until its answer can be used: the one loop for agents, judges and annotators.

Comes in: a first chat, a way to send a chat, and what reads an answer. Goes out: what was read, or an AnswerError with
the last fault. Below it, the questions of annotators, whose answers are kept. Invariant: which requests an annotator
gets depends on the question, the settings and the answers only, so a run that was killed makes the same requests
again, and their answers are found.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sotopia_sdpo.llm.answers import Answer, AnswerError
from sotopia_sdpo.llm.client import Chat, Sampling
from sotopia_sdpo.llm.kept import KeptAnswers, Request
from sotopia_sdpo.llm.spec import ModelSpec, without_address


TEMPERATURE = 0.0
MAX_TOKENS = 2048
ATTEMPTS = 4
# Part of the requests of annotators, so another wording would ask them again what is answered already.
ASK_AGAIN = "That cannot be used: {fault}. Give the whole JSON object again, in the form that was asked for."

T = TypeVar("T")
Send = Callable[[Chat, int], Awaitable[str]]
"""Gets the answer to a chat; the number of the attempt, from 0, may decide its seed."""
Again = Callable[[Chat, str, str], Chat]
"""Makes the next chat out of the last one, its answer, and what is wrong with the answer."""
Fetch = Callable[[Request, Sampling], Awaitable[Answer]]
"""Gets the answer to a request, from the cache or from the model."""


async def until_usable(send: Send, read: Callable[[str], T], chat: Chat, again: Again, attempts: int) -> T:
    """Return what `read` makes of the first answer that it takes.

    Raises:
        AnswerError: the last one of `read`, when the attempts are used up; what `send` raises goes through.
    """
    for attempt in range(attempts):
        text = await send(chat, attempt)
        try:
            return read(text)
        except AnswerError as err:
            if attempt == attempts - 1:
                raise
            chat = again(chat, text, str(err))
    raise AssertionError("a question is asked at least once")


def unchanged(chat: Chat, text: str, fault: str) -> Chat:
    """Ask the same again, as if nothing had been said: for what is drawn with another seed."""
    return chat


def with_fault(chat: Chat, text: str, fault: str) -> Chat:
    """Put an answer back to the model, with what is wrong with it."""
    told = {"role": "user", "content": ASK_AGAIN.format(fault=fault)}
    return [*chat, {"role": "assistant", "content": text}, told]


@dataclass(frozen=True)
class Question(Generic[T]):
    """What an annotator is asked, and how its answer is read."""

    text: str
    schema_name: str
    schema: dict[str, Any]
    read: Callable[[str], T]
    """Raises AnswerError, with what is wrong, where the answer cannot be used."""


class Unusable(Exception):
    """No attempt gave an answer that can be used."""

    def __init__(self, text: str, first: Request) -> None:
        """Keep the request that names the question in the cache."""
        super().__init__(text)
        self.first = first


class Asker:
    """Asks questions of one model, with one seed."""

    def __init__(self, model: ModelSpec, seed: int, cache: KeptAnswers, fetch: Fetch) -> None:
        """Take what a request is made of, and where its answer comes from."""
        self.model = model
        self.seed = seed
        self.cache = cache
        self.fetch = fetch

    async def ask(self, question: Question[T]) -> T:
        """Return what is read out of a usable answer.

        Raises:
            Unusable: when the attempts are used up; what `fetch` raises goes through.
        """
        chat = [{"role": "user", "content": question.text}]
        first, _ = self._request(question, chat, 0)
        number = await self.cache.aside(self.cache.round, first)

        async def send(chat: Chat, _: int) -> str:
            return (await self.fetch(*self._request(question, chat, number))).text

        try:
            return await until_usable(send, question.read, chat, with_fault, ATTEMPTS)
        except AnswerError as err:
            raise Unusable(str(err), first) from err

    def _request(self, question: Question[T], chat: Chat, number: int) -> tuple[Request, Sampling]:
        """Make the request of a chat, in the settings of a round."""
        sampling = Sampling(TEMPERATURE, self.seed + number, MAX_TOKENS, question.schema, question.schema_name)
        settings = {**sampling.parameters(), **({"round": number} if number else {})}
        return Request(identity(self.model), chat, settings), sampling


def identity(model: ModelSpec) -> str:
    """Name whose answer it is: a server of the user's own may move, a provider's name elsewhere is another's."""
    if model.is_custom:
        return without_address(model.name)
    return "@".join([model.typed, *model.endpoints])
