"""Say what asking would take, without asking."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sotopia_sdpo.llm.ask import Asker, Question, Unusable
from sotopia_sdpo.llm.cache import ANSWERS_FILE, Answers, Request, Stored
from sotopia_sdpo.llm.client import Sampling
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.llm.usage import Usage, cost_of
from sotopia_sdpo.pairs.annotation import AskOptions, T, amount


CHARACTERS_PER_TOKEN = 4
ASSUMED_ANSWER_TOKENS = 150


def estimate(questions: Sequence[Question[T]], options: AskOptions, folder: Path) -> str:
    """Say how many calls are owed and what they take, without making any."""
    model, owed = parse_model(options.model), Usage()
    seen: set[str] = set()
    there = 0

    async def count() -> None:
        nonlocal owed, there
        for question in questions:
            try:
                await asker.ask(question)
                there += 1
            except Unusable:
                there += 1
            except _Owed as err:
                if err.request.key not in seen:
                    owed = owed.plus(Usage(1, err.tokens, ASSUMED_ANSWER_TOKENS))
                seen.add(err.request.key)

    async def fetch(request: Request, _: Sampling) -> Stored:
        if (stored := answers.get(request)) is None:
            raise _Owed(request)
        return stored

    path = folder / ANSWERS_FILE
    with Answers(path if path.exists() else Path(":memory:")) as answers:
        asker = Asker(model, options.seed, answers, fetch)
        asyncio.run(count())
    cost = None if model.is_custom else cost_of(model.api_name, owed.prompt_tokens, owed.completion_tokens)
    return (
        f"{owed.calls:,} of {len(questions):,} questions to ask, {there:,} answered before: about "
        f"{amount(owed._replace(cost=cost))}, at {ASSUMED_ANSWER_TOKENS} tokens an answer"
    )


class _Owed(Exception):
    """An answer that is not there, in a run that calls nothing."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request

    @property
    def tokens(self) -> int:
        """About how long its prompt is."""
        return sum(len(message["content"]) for message in self.request.messages) // CHARACTERS_PER_TOKEN
