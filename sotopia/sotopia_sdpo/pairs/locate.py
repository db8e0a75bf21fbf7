"""Ask an annotator with which turn a negative went wrong.

Comes in: a negative. Goes out: the question, with what reads its answer, and the negative with the answer.
Invariant: the located turn is one of the agent's.
"""

from typing import Any

from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.blocks import choices, numbered, opening_of, tools_line, unended
from sotopia_sdpo.pairs.indexed_answer import IndexedAnswer, answer_schema, read_answer
from sotopia_sdpo.pairs.records import LocatedLog, LocatedSide, LoggedSide, PlayedSide
from sotopia_sdpo.pairs.rubric import Rubric, outcome_values, rubric_for
from sotopia_sdpo.play.dialogue import check_location


PROMPT = "locate.txt"
INDEX = "index"


def location_question(negative: PlayedSide | LoggedSide, rubric: Rubric | None = None) -> Question[IndexedAnswer]:
    """Return the question for the turn that went wrong, by a rubric, else by the one that goes with the record."""
    turns = negative.conversations
    told, first = opening_of(negative)
    values = {
        **outcome_values(negative),
        "instructions": unended(told),
        "tools": tools_line(negative),
        "dialogue": numbered(turns, first),
        "choices": choices(turns, first, len(turns)),
    }

    def read(text: str) -> IndexedAnswer:
        answer = read_answer(text, INDEX)
        try:
            check_location(turns, answer.indices[0])
        except ValueError as err:
            raise AnswerError(f"{err}; choose one of {values['choices']}") from err
        return answer

    text = rubric_for(negative, rubric).fill(PROMPT, values)
    return Question(text, "location", answer_schema(INDEX), read)


def located(negative: PlayedSide | LoggedSide, answer: IndexedAnswer) -> LocatedSide | LocatedLog:
    """Add the answer to a negative."""
    return with_location(negative, answer.indices[0], answer.reason)


def with_location(
    negative: PlayedSide | LoggedSide, location: int, reason: str, **more: Any
) -> LocatedSide | LocatedLog:
    """Add to a negative its located turn, the reason, and what else says so."""
    found = {**negative.dump(), "location": location, "reason": reason, **more}
    if isinstance(negative, LoggedSide):
        return LocatedLog(**found)
    return LocatedSide(**{**found, "differs": negative.differs})
