"""Have a model choose the key segment of each pair, and cut both sides at its end.

preference_data.json -> preference_data_auto.json. With `--length` no model is asked: all segments have one length.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm import limits
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.annotate import NO_USABLE_ANSWER, AskOptions, annotate, finish
from sotopia_sdpo.pairs.choose import KeySegment, segment_question
from sotopia_sdpo.pairs.forecast import forecast
from sotopia_sdpo.pairs.published import SEGMENT_LENGTHS, shares_table
from sotopia_sdpo.pairs.records import read_pairs
from sotopia_sdpo.pairs.segments import PartedPair, Segment, parted_pairs
from sotopia_sdpo.pairs.tally import Tally, write_kept
from sotopia_sdpo.step_files import PAIRS, SEGMENT_PAIRS
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
        help="Ask no model: cut all pairs after this many messages, an odd number, or where the shorter session ends.",
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
) -> int | None:
    """Have a model choose the key segment of each pair, and cut both sides at its end."""
    chosen = limits.Limits(concurrency, max_attempts, timeout, requests_per_minute)
    asked, folder = AskOptions(model, chosen, seed, budget), data_home(data_dir)
    fallback = messages_of("--fallback-length", fallback_length)
    fixed = messages_of("--length", length)
    if fixed is not None and (dry_run or fallback is not None):
        raise UserError("--length asks no model: it takes neither --dry-run nor --fallback-length")
    tally, path = Tally("pairs"), options.place(output, SEGMENT_PAIRS, data_dir)
    pairs = read_pairs(options.place(input, PAIRS, data_dir), PAIRS.writer)[:limit]
    parted = parted_pairs(pairs, tally)
    if fixed is not None:
        cut_all(parted, fixed, tally, path)
        return None
    questions = list(map(segment_question, parted))
    if dry_run:
        print(forecast(questions, asked, folder))
        return None
    annotation = annotate(questions, asked, folder, "pairs")
    if fallback is not None:
        reason = f"{NO_USABLE_ANSWER}: cut after {fallback} messages"
        if count := annotation.fall_back([KeySegment(one.segment(fallback), reason) for one in parted]):
            annotation.notes.append(f"{count} of the pairs that are kept have {reason}")
    answered = annotation.answered(parted)
    code = finish(annotation, tally, path, [side for one, chosen in answered for side in one.cut(*chosen)], folder)
    print(lengths_table([chosen.segment for _, chosen in answered]))
    return code


def messages_of(option: str, typed: int | str | None) -> int | None:
    """Read the value of an option that is a number of messages.

    Raises:
        UserError: if it is not an odd number; from one of the agent's turns to another it always is.
    """
    if typed is None or typed == REST:
        return None if typed is None else sys.maxsize
    if not (str(typed).isdecimal() and int(typed) % 2):
        raise UserError(f"{option} {typed}: expected an odd number, from agent turn to agent turn")
    return int(typed)


def cut_all(parted: Sequence[PartedPair], length: int, tally: Tally, path: Path) -> None:
    """Cut every pair after this many messages, and write and count them.

    Raises:
        UserError: if there is none.
    """
    segments = [one.segment(length) for one in parted]
    records = [one.cut(segment, "a fixed length") for one, segment in zip(parted, segments, strict=True)]
    tally.keep(len(parted))
    write_kept(tally, "pair", [(path, [side for both in records for side in both])])
    print(lengths_table(segments))


def lengths_table(segments: Sequence[Segment]) -> str:
    """Compare the segments' lengths with the published ones."""
    return shares_table(SEGMENT_LENGTHS, [end - start for start, end in segments])
