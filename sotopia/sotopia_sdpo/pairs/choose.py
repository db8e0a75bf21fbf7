"""Ask an annotator which turns of a pair are its key segment.

Comes in: a pair whose sides part in a turn of the agent's. Goes out: the question, with what reads its answer.
Invariant: a segment that was chosen starts where the sides part and ends on a turn of the agent's.
"""

from typing import NamedTuple

from sotopia_sdpo import prompts
from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.blocks import choices, instructions, numbered
from sotopia_sdpo.pairs.indexed_answer import answer_schema, read_answer
from sotopia_sdpo.pairs.records import SCORES, DialogueRecord, PlayedSide, starts_at
from sotopia_sdpo.pairs.segments import PartedPair, Segment


PROMPT = "segment.txt"
START, END = "start_index", "end_index"


class KeySegment(NamedTuple):
    """A segment, and why it was chosen."""

    segment: Segment
    reason: str


def segment_question(parted: PartedPair) -> Question[KeySegment]:
    """Return the question for the key segment of a pair."""
    positive, start = parted.positive, parted.start
    first = starts_at(positive)
    values = {
        **{f"negative_{name}": score_of(parted.pair.negative, name) for name in SCORES},
        **{f"positive_{name}": score_of(parted.pair.positive, name) for name in SCORES},
        "instructions": instructions(positive[first]),
        "history": numbered(positive, first + 1, start),
        "first": numbered(parted.negative, start),
        "second": numbered(positive, start),
        "start": str(start),
        "choices": choices(positive, start, len(positive)),
    }

    def read(text: str) -> KeySegment:
        (begins, ends), reason = read_answer(text, START, END)
        if begins != start:
            raise AnswerError(f"{START} is {begins}, expected {start}, where the two continuations part")
        if not start <= ends < len(positive) or positive[ends]["from"] != "gpt":
            raise AnswerError(f"{END} is {ends}, expected a turn of the agent's: one of {values['choices']}")
        return KeySegment(parted.segment(ends + 1 - start), reason)

    return Question(prompts.fill(prompts.read(PROMPT), values), "segment", answer_schema(START, END), read)


def score_of(side: DialogueRecord, name: str) -> str:
    """Write a score, where it is known."""
    return f"{getattr(side, name):g}" if isinstance(side, PlayedSide) else "an unknown score"
