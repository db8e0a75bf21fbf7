"""Match new sessions to the negatives they start from, and keep the pairs in which the new one went better.

`--pairs sdpo` reads negative_data_error.json and the episodes of task `hpos`, which continue from the located turn,
and writes preference_data.json and positive_data.json; `--pairs eto` reads negative_data.json and the episodes of
task `pos`, new sessions from the start, and writes eto_data.json. A session is matched by the negative's episode,
scenario, characters, role and located turn. The best one by goal, then relationship, is kept where its goal is higher
than the negative's, or equal with a higher relationship.

    python dpo/data_filtering_positive.py
    python dpo/data_filtering_positive.py --pairs eto
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.matching import (
    NoPositive,
    Origin,
    best_of,
    by_origin,
    check_negatives,
    has_same_partner,
    origin_of_negative,
    pair_of,
)
from sotopia_sdpo.pairs.published import PUBLISHED_PAIRS
from sotopia_sdpo.pairs.records import Located, Negative, Sided, check_unique, read_records
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import Side, sides_of
from sotopia_sdpo.pairs.tally import Tally, mean
from sotopia_sdpo.step_files import ETO_PAIRS, LOCATED, NEGATIVES, PAIRS, POSITIVES, write_json
from sotopia_sdpo.store import database_url
from sotopia_sdpo.store import open_store


class Pairs(StrEnum):
    """Which sessions are compared."""

    sdpo = "sdpo"
    eto = "eto"


WhichPairs = Annotated[
    Pairs, typer.Option("--pairs", help="sdpo: sessions that continue from the located turn; eto: whole ones.")
]
PositiveOutput = Annotated[
    Path | None, typer.Option(show_default=False, help="Where positive_data.json goes. (default: in the data folder)")
]


def main(
    pairs: WhichPairs = Pairs.sdpo,
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
    is_sdpo = pairs is Pairs.sdpo
    task, source, target, model = (
        ("hpos", LOCATED, PAIRS, Located) if is_sdpo else ("pos", NEGATIVES, ETO_PAIRS, Negative)
    )

    def step() -> None:
        wanted, template = options.wanted(models, partner_model, evaluator_model, tag), load_template(prompt_template)
        path = options.place(input, source, data_dir)
        negatives = read_records(path, model, source.writer)[:limit]
        check_unique(path, [negative.name for negative in negatives], source.writer)
        sessions = Tally("sessions")
        with open_store(database_url(db, data_dir), create=False) as store:
            check_negatives(path, negatives, store, template, source.writer)
            sides = sides_of(store, choose_runs(store, task, wanted), template, sessions)
            found, tally = better_pairs(negatives, by_origin(sides, negatives, sessions))
        print(f"sessions: {sessions.line()}")
        if not found:
            raise UserError(f"no pair is left: {tally.line()}; sample more trials (`sotopia benchmark --task {task}`)")
        files = [(options.place(output, target, data_dir), [side.dump() for pair in found for side in pair])]
        if is_sdpo:
            positives = [positive.dump() for _, positive in found]
            files.append((options.place(positive_output, POSITIVES, data_dir), positives))
        write_json(files)
        print(tally.line([path for path, _ in files]))
        print(summary([positive for _, positive in found]))
        if others := sum(not has_same_partner(*pair) for pair in found):
            print(f"note: {others} of these pairs compare sessions with two different partners")

    options.end_with(step)


def better_pairs(
    negatives: Sequence[Negative], sessions: dict[Origin, list[Side]]
) -> tuple[list[tuple[Sided, Sided]], Tally]:
    """Pair every negative with its best session, and count those without one."""
    tally, found = Tally("negatives"), []
    for negative in negatives:
        try:
            positive = best_of(negative, sessions[origin_of_negative(negative)])
        except NoPositive as err:
            tally.drop(str(err))
            continue
        tally.keep()
        found.append(pair_of(negative, positive.record))
    return found, tally


def summary(positives: Sequence[Sided]) -> str:
    """Describe the pairs."""
    goal = mean([positive.goal_gain for positive in positives])
    relationship = mean([positive.relationship_gain for positive in positives])
    count = f"{len(positives):,} pairs (published: {PUBLISHED_PAIRS:,})"
    return f"{count}, mean gain in goal {goal}, in relationship {relationship}"


if __name__ == "__main__":
    options.script(main)
