"""An annotator that is no server: it answers by a function, and knows what it was asked."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.answers import Answer, AnswerError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.llm.client import LLMClient
from sotopia_sdpo.llm.limits import ATTEMPTS, Limits
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.pairs.annotate import Annotation, AskOptions, annotate, finish
from sotopia_sdpo.pairs.tally import Tally


AnswerTo = Callable[[str, int], str]
"""From the text of the question and the number of the call, counted from 1; may raise."""
MODEL = "custom/m@http://h/v1"


def read(text: str) -> str:
    """Take all but nonsense."""
    if text.startswith("nonsense"):
        raise AnswerError("nonsense")
    return text


def questions(*texts: str) -> list[Question[str]]:
    return [Question(text, "name", {"type": "object"}, read) for text in texts]


class Annotator:
    """Stands where an LLMClient calls."""

    def __init__(self, patch: pytest.MonkeyPatch, answer: AnswerTo = lambda text, _: f"to {text}") -> None:
        self.answer = answer
        self.asked: list[str] = []
        """The first message of every call."""
        self.chats: list[list[dict[str, str]]] = []
        self.seeds: list[int | None] = []
        self.attempts: list[int] = []
        self.probes = 0
        self.probe_fault = ""
        self.cost: float | None = None
        self.is_simulated = False
        self.in_flight = 0
        self.seen_in_flight: list[int] = []
        """With every call, how many were in flight."""
        self.delay_s: Callable[[str], float] = lambda _: 0.0
        patch.setattr(LLMClient, "complete", lambda client, *args, **more: self._complete(client, *args, **more))
        patch.setattr(LLMClient, "probe", lambda client, models: self._probe())

    async def _complete(
        self, client: LLMClient, model: Any, messages: Any, sampling: Any, attempts: int | None = None
    ) -> Answer:
        text = messages[0]["content"]
        self.asked.append(text)
        self.chats.append(messages)
        self.seeds.append(sampling.seed)
        self.attempts.append(attempts or client.limits.attempts)
        self.in_flight += 1
        self.seen_in_flight.append(self.in_flight)
        number = len(self.asked)
        try:
            await asyncio.sleep(self.delay_s(text))
            found = self.answer(text, number)
        finally:
            self.in_flight -= 1
        return Answer(found, Usage(1, 10, 5, self.cost), self.is_simulated)

    async def _probe(self) -> None:
        self.probes += 1
        if self.probe_fault:
            raise UserError(self.probe_fault)


def run(
    folder: Path, *texts: str, model: str = MODEL, concurrency: int = 1, attempts: int = ATTEMPTS, **options: Any
) -> Annotation[str]:
    """Ask these questions, as a script does that is killed before it writes."""
    chosen = AskOptions(model, Limits(concurrency, attempts), **options)
    return annotate(questions(*texts), chosen, folder, "questions")


def run_and_finish(folder: Path, *texts: str, **options: Any) -> tuple[Annotation[str], int]:
    """Ask these questions and write what came."""
    annotation = run(folder, *texts, **options)
    records = [found for _, found in annotation.answered(texts)]
    return annotation, finish(annotation, Tally("questions"), folder / "out.json", records, folder)
