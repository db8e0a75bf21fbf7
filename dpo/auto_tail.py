"""Have a model choose the key segment of each pair, and cut both sides at its end.

Reads preference_data.json, writes preference_data_auto.json for `stage: sdpo`. The segment starts with the turn in
which the two sides part and ends on one of the agent's turns; the same number of messages is taken on both sides,
fewer where one session is over before. A pair without a usable answer is dropped, or cut after a fixed number of
messages (`--fallback-length 3`). Answers are kept in answers.db of the data folder, so no call is paid twice.

    python dpo/auto_tail.py --model gpt-4o --concurrency 15
    python dpo/auto_tail.py --dry-run
    python dpo/auto_tail.py --length 3 --output three.json     without a model, to compare: 3 messages, or `rest`
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm import limits
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import NO_USABLE_ANSWER, AskOptions, annotate, finish
from sotopia_sdpo.pairs.choose import Choice, question_about
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.published import SEGMENT_LENGTHS, shares_table
from sotopia_sdpo.pairs.records import read_pairs
from sotopia_sdpo.pairs.segments import Parted, Segment, parted_pairs
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.step_files import PAIRS, SEGMENT_PAIRS, write_json
from sotopia_sdpo.store import data_home


FallbackLength = Annotated[
    int | None,
    typer.Option(
        show_default=False,
        min=1,
        help="Cut a pair without a usable answer after this many messages, an odd number. (default: drop it)",
    ),
]
REST = "rest"
Length = Annotated[
    str | None,
    typer.Option(
        show_default=False,
        metavar="N|rest",
        help="Ask no model: cut all pairs after so many messages, an odd number, or where the shorter session ends.",
    ),
]


def main(
    model: options.Annotator = options.DEFAULT_ANNOTATOR,
    fallback_length: FallbackLength = None,
    length: Length = None,
    concurrency: options.Concurrency = limits.QUESTIONS_IN_FLIGHT,
    budget: options.Budget = None,
    dry_run: options.DryRun = False,
    limit: options.Limit = None,
    seed: options.AskSeed = 0,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    data_dir: options.DataDir = None,
    max_attempts: options.Attempts = limits.ATTEMPTS,
    timeout: options.Timeout = limits.TIMEOUT_S,
    requests_per_minute: options.RequestsPerMinute = None,
) -> None:
    """Have a model choose the key segment of each pair, and cut both sides at its end."""
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    asked = AskOptions(model, chosen, seed, budget)
    folder = data_home(data_dir)

    def step() -> int | None:
        fallback = messages_of("--fallback-length", fallback_length)
        fixed = messages_of("--length", length)
        if fixed is not None and (dry_run or fallback is not None):
            raise UserError("--length asks no model: leave --dry-run and --fallback-length out")
        tally = Tally("pairs")
        pairs = read_pairs(options.place(input, PAIRS, data_dir), PAIRS.writer)[:limit]
        parted = parted_pairs(pairs, tally)
        if fixed is not None:
            cut_all(parted, fixed, tally, options.place(output, SEGMENT_PAIRS, data_dir))
            return None
        questions = list(map(question_about, parted))
        if dry_run:
            print(forecast(questions, asked, folder))
            return None
        annotation = annotate(questions, asked, folder, "pairs")
        if fallback is not None:
            reason = f"{NO_USABLE_ANSWER}: cut after {fallback} messages"
            if count := annotation.fall_back([Choice(one.segment(fallback), reason) for one in parted]):
                annotation.notes.append(f"{count} of the pairs that are kept have {reason}")
        answered = annotation.answered(parted)
        records = [record for one, choice in answered for record in one.cut(choice.segment, choice.reason)]
        code = finish(annotation, tally, options.place(output, SEGMENT_PAIRS, data_dir), records, folder)
        print(lengths_table([choice.segment for _, choice in answered]))
        return code

    options.end_with(step)


def messages_of(option: str, typed: int | str | None) -> int | None:
    """Read a length that was typed, in messages.

    Raises:
        UserError: if it is not an odd number; from one of the agent's turns to another it always is.
    """
    if typed is None or typed == REST:
        return None if typed is None else sys.maxsize
    if not (str(typed).isdecimal() and int(typed) % 2):
        raise UserError(f"{option} {typed}: expected an odd number, from agent turn to agent turn")
    return int(typed)


def cut_all(parted: Sequence[Parted], length: int, tally: Tally, path: Path) -> None:
    """Cut every pair after so many messages, and write and count them.

    Raises:
        UserError: if there is none.
    """
    segments = [one.segment(length) for one in parted]
    tally.keep(len(parted))
    if not parted:
        raise UserError(f"no pair is left: {tally.line()}")
    records = [one.cut(segment, "a fixed length") for one, segment in zip(parted, segments, strict=True)]
    write_json([(path, [side for both in records for side in both])])
    print(tally.line([path]), lengths_table(segments), sep="\n")


def lengths_table(segments: Sequence[Segment]) -> str:
    """Say how often each length comes, beside the published shares."""
    return shares_table(SEGMENT_LENGTHS, [end - start for start, end in segments])


if __name__ == "__main__":
    options.script(main)
