"""Pair the negatives with new sessions that went better.

`sdpo`: negative_data_error.json and the episodes of task `hpos` -> preference_data.json and positive_data.json;
`eto`: negative_data.json and the episodes of task `pos` -> eto_data.json.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.matching import better_pairs, by_start, check_negatives, has_same_partner
from sotopia_sdpo.pairs.negatives import read_negatives, refuse_logs
from sotopia_sdpo.pairs.published import PUBLISHED_PAIRS
from sotopia_sdpo.pairs.quests import better_quests, gain_of, is_quest, quest_sides, read_stored
from sotopia_sdpo.pairs.records import (
    SCORES,
    LocatedLog,
    LocatedSide,
    LoggedSide,
    PairedSide,
    PlayedSide,
    PreferencePair,
    R,
)
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import sides_of
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import ETO_PAIRS, LOCATED, NEGATIVES, PAIRS, POSITIVES, StepFile, read_list
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
LOGS: dict[Method, type[LoggedSide]] = {Method.sdpo: LocatedLog, Method.eto: LoggedSide}
"""What the negatives are that an environment's episodes gave."""

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
    rows = read_list(path, source.writer)
    are_quests = any(map(is_quest, rows))
    if not are_quests:
        # Before the store: who has logs has none.
        refuse_logs(path, rows)
    sessions, tally = Tally("sessions"), Tally("negatives")
    places = [options.place(output, target, data_dir)]
    if pairs is Method.sdpo:
        places.append(options.place(positive_output, POSITIVES, data_dir))
    with open_store(database_url(db, data_dir), create=False) as store:
        if are_quests:
            logs = read_stored(path, LOGS[pairs], store, source.writer)[:limit]
            sides_of_quests = quest_sides(store, choose_runs(store, task, wanted), sessions)
            better = better_quests(logs, sides_of_quests, sessions, tally)
            _write(better, places, tally, sessions, f"rollout.py --task {task}")
            print(f"{len(better):,} pairs, mean gain {mean([gain_of(pair) for pair in better])}")
            return
        found_in = nullcontext(store)
        negatives = read_negatives(path, model, source.writer, lambda: found_in)[:limit]
        negatives = check_negatives(path, negatives, store, template, source.writer)
        sides = sides_of(store, choose_runs(store, task, wanted), template, sessions)
        found = better_pairs(negatives, by_start(sides, negatives, sessions), tally)
    _write(found, places, tally, sessions, f"sotopia benchmark --task {task}")
    print(summary(found, published))
    if others := sum(not has_same_partner(*pair) for pair in found):
        print(f"note: {others} of these pairs compare sessions with two different partners")


def _write(
    pairs: Sequence[PreferencePair[R]], places: Sequence[Path], tally: Tally, sessions: Tally, sampler: str
) -> None:
    """Write the pairs, and their positives where these have a place too; say how many there are.

    Raises:
        UserError: if there is none.
    """
    print("\n".join([f"sessions: {sessions.line()}", *sessions.note_lines()]))
    contents = [side.dump() for pair in pairs for side in pair], [pair.positive.dump() for pair in pairs]
    write_kept(tally, "pair", list(zip(places, contents, strict=False)), f"; sample more trials (`{sampler}`)")


def summary(pairs: Sequence[PreferencePair[PairedSide]], published: int | None) -> str:
    """Describe the pairs, beside the published number of them where there is one."""
    gains = {name: [getattr(one.positive, name) - getattr(one.negative, name) for one in pairs] for name in SCORES}
    count = f"{len(pairs):,} pairs" + (f" (published: {published:,})" if published else "")
    return f"{count}, mean gain in " + ", in ".join(f"{name} {mean(found)}" for name, found in gains.items())
