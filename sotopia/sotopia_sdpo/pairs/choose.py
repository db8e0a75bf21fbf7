"""Ask an annotator which turns of a pair are its key segment.

Comes in: a pair whose sides part in a turn of the agent's. Goes out: the question, with what reads its answer.
Invariant: a segment that was chosen starts where the sides part and ends on a turn of the agent's.
"""

from typing import NamedTuple

from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.blocks import choices, numbered, opening_of, tools_line, unended
from sotopia_sdpo.pairs.indexed_answer import answer_schema, read_answer
from sotopia_sdpo.pairs.rubric import Rubric, outcome_values, rubric_for
from sotopia_sdpo.pairs.segments import PartedPair


PROMPT = "segment.txt"
START, END = "start_index", "end_index"
BY_STATE = " (the second really began in other words, with the same calls and the same results)"


class KeySegment(NamedTuple):
    """A segment, and why it was chosen."""

    length: int
    """In turns of the agent's."""
    reason: str


def segment_question(parted: PartedPair, rubric: Rubric | None = None) -> Question[KeySegment]:
    """Return the question for the key segment of a pair, by a rubric, else by the one that goes with its records."""
    negative, positive = parted.pair
    start = parted.start
    told, first = opening_of(positive)
    ends = parted.ends[1]
    values = {
        **outcome_values(negative, "negative_"),
        **outcome_values(positive, "positive_"),
        "instructions": unended(told),
        "tools": tools_line(positive),
        "match": BY_STATE if getattr(positive, "match", None) else "",
        "history": numbered(parted.positive, first, start),
        "first": numbered(parted.negative, start),
        "second": numbered(parted.positive, start),
        "start": str(start),
        "choices": choices(parted.positive, start, len(parted.positive)),
    }

    def read(text: str) -> KeySegment:
        (begins, last), reason = read_answer(text, START, END)
        if begins != start:
            raise AnswerError(f"{START} is {begins}, expected {start}, where the two continuations part")
        if last + 1 not in ends:
            raise AnswerError(f"{END} is {last}, expected a turn of the agent's: one of {values['choices']}")
        return KeySegment(ends.index(last + 1) + 1, reason)

    text = rubric_for(positive, rubric).fill(PROMPT, values)
    return Question(text, "segment", answer_schema(START, END), read)
