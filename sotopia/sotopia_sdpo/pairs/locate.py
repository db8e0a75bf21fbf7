"""Ask an annotator with which turn a negative went wrong.

Comes in: a negative. Goes out: the question, with what reads its answer, and the negative with the answer.
Invariant: the located turn is one of the agent's.
"""

from sotopia_sdpo import prompts
from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.blocks import choices, instructions, numbered
from sotopia_sdpo.pairs.indexed_answer import IndexedAnswer, answer_schema, read_answer
from sotopia_sdpo.pairs.records import SCORES, LocatedSide, PlayedSide, starts_at
from sotopia_sdpo.play.dialogue import check_location


PROMPT = "locate.txt"
INDEX = "index"


def location_question(negative: PlayedSide) -> Question[IndexedAnswer]:
    """Return the question for the turn that went wrong."""
    turns = negative.conversations
    start = starts_at(turns)
    values = {
        **{name: f"{getattr(negative, name):g}" for name in SCORES},
        "instructions": instructions(turns[start]),
        "dialogue": numbered(turns, start + 1),
        "choices": choices(turns, start + 1, len(turns)),
    }

    def read(text: str) -> IndexedAnswer:
        answer = read_answer(text, INDEX)
        try:
            check_location(turns, answer.indices[0])
        except ValueError as err:
            raise AnswerError(f"{err}; choose one of {values['choices']}") from err
        return answer

    return Question(prompts.fill(prompts.read(PROMPT), values), "location", answer_schema(INDEX), read)


def located(negative: PlayedSide, answer: IndexedAnswer) -> LocatedSide:
    """Add the answer to a negative."""
    found = {"location": answer.indices[0], "reason": answer.reason, "differs": negative.differs}
    return LocatedSide(**{**negative.dump(), **found})
