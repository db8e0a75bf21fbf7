"""Ask an annotator one question until its answer can be used.

Comes in: a question, and a way to get the answer to a request. Goes out: what was read out of the answer, or an
Unusable with the last fault. An answer that cannot be used is put back to the model with what is wrong with it.
Invariant: which requests are made depends on the question, the settings and the answers only, so a run that was killed
makes the same requests again, whose answers are kept.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sotopia_sdpo.llm.cache import Answers, Request, Stored
from sotopia_sdpo.llm.client import Sampling
from sotopia_sdpo.llm.spec import ModelSpec, without_address
from sotopia_sdpo.play.actions import AnswerError


TEMPERATURE = 0.0
MAX_TOKENS = 2048
ATTEMPTS = 4
ASK_AGAIN = "That cannot be used: {fault}. Give the whole JSON object again, in the form that was asked for."

T = TypeVar("T")
Fetch = Callable[[Request, Sampling], Awaitable[Stored]]
"""Gets the answer to a request, out of the store or from the model."""


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
        """Keep the request that names the question among the answers."""
        super().__init__(text)
        self.first = first


class Asker:
    """Asks questions of one model, with one seed."""

    def __init__(self, model: ModelSpec, seed: int, answers: Answers, fetch: Fetch) -> None:
        """Take what a request is made of, and where its answer comes from."""
        self.model = model
        self.seed = seed
        self.answers = answers
        self.fetch = fetch

    async def ask(self, question: Question[T]) -> T:
        """Get a usable answer.

        Raises:
            Unusable: when the attempts are used up; what `fetch` raises goes through.
        """
        chat = [{"role": "user", "content": question.text}]
        first, _ = self._request(question, chat, 0)
        number, fault = self.answers.round(first), ""
        for _ in range(ATTEMPTS):
            stored = await self.fetch(*self._request(question, chat, number))
            try:
                return question.read(stored.text)
            except AnswerError as err:
                fault = str(err)
            again = {"role": "user", "content": ASK_AGAIN.format(fault=fault)}
            chat = [*chat, {"role": "assistant", "content": stored.text}, again]
        raise Unusable(fault, first)

    def _request(self, question: Question[T], chat: list[dict[str, str]], number: int) -> tuple[Request, Sampling]:
        """Make the request of a chat, in the settings of a round."""
        sampling = Sampling(TEMPERATURE, self.seed + number, MAX_TOKENS, question.schema, question.schema_name)
        settings = {**sampling.parameters(), **({"round": number} if number else {})}
        return Request(identity(self.model), chat, settings), sampling


def identity(model: ModelSpec) -> str:
    """Say whose answer it is: a server of the user's own may move, a provider's name elsewhere is another's."""
    if model.is_custom:
        return without_address(model.name)
    return "@".join([model.typed, *model.endpoints])
