"""Have a model choose the key segment of each pair, and cut both sides at its end.

Reads preference_data.json, writes preference_data_auto.json for `stage: sdpo`. The segment starts with the turn in
which the two sides part and ends on one of the agent's turns; the same number of messages is taken on both sides,
fewer where one session is over before. A pair without a usable answer is dropped, or cut after a fixed number of
messages (`--fallback-length 3`). Answers are kept in answers.db of the data folder, so no call is paid twice.

    python dpo/auto_tail.py --model gpt-4o --concurrency 15
    python dpo/auto_tail.py --dry-run
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from typing import Annotated, NamedTuple

import typer

from sotopia_sdpo.actions import AnswerError
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.preference import options, verdicts
from sotopia_sdpo.preference.annotating import annotate, finish
from sotopia_sdpo.preference.annotation import NO_USABLE_ANSWER, AskOptions
from sotopia_sdpo.preference.asking import Question
from sotopia_sdpo.preference.blocks import choices, fill, instructions, numbered
from sotopia_sdpo.preference.estimate import estimate
from sotopia_sdpo.preference.published import SEGMENT_LENGTHS, shares_table
from sotopia_sdpo.preference.records import Bare, Negative, read_pairs, starts_at
from sotopia_sdpo.preference.segments import Parted, Segment, parted_pairs
from sotopia_sdpo.preference.tally import Tally
from sotopia_sdpo.step_files import PAIRS, SEGMENT_PAIRS
from sotopia_sdpo.storage import data_home


PROMPT = "segment.txt"
START, END = "start_index", "end_index"
SCORES = ("goal", "relationship")

FallbackLength = Annotated[
    int | None,
    typer.Option(
        show_default=False,
        min=1,
        help="Cut a pair without a usable answer after this many messages, an odd number. (default: drop it)",
    ),
]


class Choice(NamedTuple):
    """A segment, and why it was chosen."""

    segment: Segment
    reason: str


def main(
    model: options.Annotator = options.DEFAULT_ANNOTATOR,
    fallback_length: FallbackLength = None,
    concurrency: options.Concurrency = 15,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    limit: options.Limit = None,
    seed: options.AskSeed = 0,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = 8,
    timeout: options.Timeout = 180.0,
) -> None:
    """Have a model choose the key segment of each pair, and cut both sides at its end."""
    asked = AskOptions(model, concurrency, seed, budget, max_attempts, timeout)
    folder = data_home(data_dir)

    def step() -> int | None:
        if fallback_length is not None and fallback_length % 2 == 0:
            raise UserError(
                f"--fallback-length {fallback_length}: expected an odd number, from agent turn to agent turn"
            )
        tally = Tally("pairs")
        pairs = read_pairs(options.place(input, PAIRS, data_dir), PAIRS.writer)[:limit]
        parted = parted_pairs(pairs, tally)
        questions = list(map(question_about, parted))
        if dry_run:
            print(estimate(questions, asked, folder))
            return None
        annotation = annotate(questions, asked, folder, "pairs")
        if fallback_length is not None:
            reason = f"{NO_USABLE_ANSWER}: cut after {fallback_length} messages"
            if count := annotation.fall_back([Choice(one.segment(fallback_length), reason) for one in parted]):
                annotation.notes.append(f"{count} of the pairs that are kept have {reason}")
        answered = annotation.answered(parted)
        records = [record for one, choice in answered for record in one.cut(choice.segment, choice.reason)]
        code = finish(annotation, tally, options.place(output, SEGMENT_PAIRS, data_dir), records, folder)
        print(shares_table(SEGMENT_LENGTHS, [choice.segment[1] - choice.segment[0] for _, choice in answered]))
        return code

    options.end_with(step)


def question_about(parted: Parted) -> Question[Choice]:
    """Ask for the segment of a pair."""
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

    def read(text: str) -> Choice:
        (begins, ends), reason = verdicts.read(text, START, END)
        if begins != start:
            raise AnswerError(f"{START} is {begins}, expected {start}, where the two continuations part")
        if not start <= ends < len(positive) or positive[ends]["from"] != "gpt":
            raise AnswerError(f"{END} is {ends}, expected a turn of the agent's: one of {values['choices']}")
        return Choice(parted.segment(ends + 1 - start), reason)

    return Question(fill(PROMPT, values), "segment", verdicts.schema(START, END), read)


def score_of(side: Bare, name: str) -> str:
    """Write a score, where it is known."""
    return f"{getattr(side, name):g}" if isinstance(side, Negative) else "an unknown score"


if __name__ == "__main__":
    options.script(main)
