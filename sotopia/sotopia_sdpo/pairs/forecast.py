"""Forecast what asking would take, without asking."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.ask import Asker, Question, Unusable
from sotopia_sdpo.llm.client import Sampling
from sotopia_sdpo.llm.kept import Request
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.llm.usage import Usage, amount, cost_of
from sotopia_sdpo.pairs.annotate import AskOptions, T
from sotopia_sdpo.store import open_answers


CHARACTERS_PER_TOKEN = 4
ASSUMED_ANSWER_TOKENS = 150


def forecast(questions: Sequence[Question[T]], options: AskOptions, folder: Path, url: str = "") -> str:
    """Return a line with how many calls are owed and what they take, without making any."""
    model = parse_model(options.model)
    with open_answers(folder, url, create=False) as cache:

        async def fetch(request: Request, _: Sampling) -> Answer:
            if (answer := cache.get(request)) is None:
                raise _Owed(request)
            return answer

        owed, there = asyncio.run(_count(Asker(model, options.seed, cache, fetch), questions))
    cost = None if model.is_custom else cost_of(model.api_name, owed.prompt_tokens, owed.completion_tokens)
    return (
        f"{owed.calls:,} of {len(questions):,} questions to ask, {there:,} answered before: about "
        f"{amount(owed._replace(cost=cost))}, at {ASSUMED_ANSWER_TOKENS} tokens an answer"
    )


async def _count(asker: Asker, questions: Sequence[Question[T]]) -> tuple[Usage, int]:
    """Return what is owed, equal requests counted once, and how many questions need no call."""
    owed: dict[str, Usage] = {}
    there = 0
    for question in questions:
        try:
            await asker.ask(question)
            there += 1
        except Unusable:
            there += 1
        except _Owed as err:
            owed[err.request.key] = err.usage
    total = Usage()
    for usage in owed.values():
        total = total.plus(usage)
    return total, there


class _Owed(Exception):
    """An answer that is not there, in a run that calls nothing."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request

    @property
    def usage(self) -> Usage:
        """About what its call takes."""
        characters = sum(len(message["content"]) for message in self.request.messages)
        return Usage(1, characters // CHARACTERS_PER_TOKEN, ASSUMED_ANSWER_TOKENS)
