"""Pair the negatives with new sessions that went better.

`sdpo`: negative_data_error.json and the episodes of task `hpos` -> preference_data.json and positive_data.json;
`eto`: negative_data.json and the episodes of task `pos` -> eto_data.json.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.matching import better_pairs, by_start, check_negatives, has_same_partner
from sotopia_sdpo.pairs.negatives import read_negatives
from sotopia_sdpo.pairs.published import PUBLISHED_PAIRS
from sotopia_sdpo.pairs.records import SCORES, LocatedSide, PairedSide, PlayedSide, PreferencePair
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import sides_of
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import ETO_PAIRS, LOCATED, NEGATIVES, PAIRS, POSITIVES, StepFile
from sotopia_sdpo.store import database_url, open_store


class Method(StrEnum):
    """Which method the pairs are for."""

    sdpo = "sdpo"
    eto = "eto"


class Source(NamedTuple):
    """What the pairs of a method are made of, and where they go."""

    task: str
    negatives: StepFile
    model: type[PlayedSide]
    pairs: StepFile
    published: int | None
    """How many pairs the paper's authors published."""


SOURCES = {
    Method.sdpo: Source("hpos", LOCATED, LocatedSide, PAIRS, PUBLISHED_PAIRS),
    Method.eto: Source("pos", NEGATIVES, PlayedSide, ETO_PAIRS, None),
}

WhichPairs = Annotated[
    Method, typer.Option("--pairs", help="sdpo: sessions that continue from the located turn; eto: whole ones.")
]
PositiveOutput = Annotated[
    Path | None, typer.Option(show_default=False, help="Where positive_data.json goes. (default: in the data folder)")
]


def main(
    pairs: WhichPairs = Method.sdpo,
    models: options.Models = None,
    partner_model: options.Partner = "",
    evaluator_model: options.Evaluator = "",
    tag: options.Tags = None,
    limit: options.Limit = None,
    input: options.Input = None,  # noqa: A002 (what users type)
    output: options.Output = None,
    positive_output: PositiveOutput = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Match new sessions to the negatives they start from, and keep those that went better."""
    task, source, model, target, published = SOURCES[pairs]
    wanted, template = options.wanted(models, partner_model, evaluator_model, tag), load_template(prompt_template)
    path = options.place(input, source, data_dir)
    sessions, tally = Tally("sessions"), Tally("negatives")
    with open_store(database_url(db, data_dir), create=False) as store:
        found_in = nullcontext(store)
        negatives = read_negatives(path, model, source.writer, lambda: found_in)[:limit]
        negatives = check_negatives(path, negatives, store, template, source.writer)
        sides = sides_of(store, choose_runs(store, task, wanted), template, sessions)
        found = better_pairs(negatives, by_start(sides, negatives, sessions), tally)
    print("\n".join([f"sessions: {sessions.line()}", *sessions.note_lines()]))
    positives = [pair.positive for pair in found]
    files: list[tuple[Path, list[Any]]] = [
        (options.place(output, target, data_dir), [side.dump() for pair in found for side in pair])
    ]
    if pairs is Method.sdpo:
        files.append((options.place(positive_output, POSITIVES, data_dir), [side.dump() for side in positives]))
    write_kept(tally, "pair", files, f"; sample more trials (`sotopia benchmark --task {task}`)")
    print(summary(found, published))
    if others := sum(not has_same_partner(*pair) for pair in found):
        print(f"note: {others} of these pairs compare sessions with two different partners")


def summary(pairs: Sequence[PreferencePair[PairedSide]], published: int | None) -> str:
    """Describe the pairs, beside the published number of them where there is one."""
    gains = {name: [getattr(one.positive, name) - getattr(one.negative, name) for one in pairs] for name in SCORES}
    count = f"{len(pairs):,} pairs" + (f" (published: {published:,})" if published else "")
    return f"{count}, mean gain in " + ", in ".join(f"{name} {mean(found)}" for name, found in gains.items())
