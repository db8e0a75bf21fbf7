"""Make SFT data of the experts' episodes: the scored episodes of task `sft` -> sft_data.json.

With `--input`, of the dialogues of a file whose outcome is at least a bound; of the episodes of an environment all, or
those whose score is.
"""

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.filtering import (
    InputOfLogs,
    OutcomeName,
    filter_of,
    filter_of_quests,
    read_any,
    refuse_outcome,
)
from sotopia_sdpo.pairs.quests import env_of, quest_sides, score_of
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import sample_of, sides_of
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import SFT_DATA
from sotopia_sdpo.store import database_url, open_store


MinGoal = Annotated[
    float | None, typer.Option(show_default=False, help="Only sides with at least this goal score. (default: all)")
]
AtLeast = Annotated[
    float | None,
    typer.Option(show_default=False, help="Keep dialogues whose outcome is at least this."),
]


def main(
    models: options.Models = None,
    partner_model: options.Partner = "",
    evaluator_model: options.Evaluator = "",
    tag: options.Tags = None,
    min_goal: MinGoal = None,
    input: InputOfLogs = None,  # noqa: A002 (what users type)
    outcome: OutcomeName = None,
    at_least: AtLeast = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    output: options.Output = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Make SFT data of the experts' episodes: one dialogue for each side of each."""
    named = {"--models": models, "--partner-model": partner_model, "--evaluator-model": evaluator_model, "--tag": tag}
    theirs = {**named, "--min-goal": min_goal, "--prompt-template": prompt_template, "--db": db}
    bounds, path = {"--at-least": at_least}, options.place(output, SFT_DATA, data_dir)
    if chosen := filter_of(input, outcome, bounds, theirs):
        chosen.write(read_any(Path(chosen.place)), Tally("dialogues"), "dialogue", path, limit, seed)
        return
    tally = Tally("sides")
    wanted = options.wanted(models, partner_model, evaluator_model, tag)
    with open_store(database_url(db, data_dir), create=False) as store:
        runs = choose_runs(store, "sft", wanted, mixed_agents=True)
        if env_of(runs):
            tally = Tally("episodes")
            quests = [side.record for side in quest_sides(store, runs, tally)]
            score = score_of(quests, tally, "dialogue")
            only = {"--min-goal": min_goal}
            chosen = filter_of_quests(store.url, score, outcome, bounds, only, ("--at-least", -inf))
            chosen.write(quests, tally, "dialogue", path, limit, seed)
            return
        refuse_outcome(outcome, bounds)
        sides = sides_of(store, runs, load_template(prompt_template), tally, both=True)
        if min_goal is not None:
            too_low = f"with a goal score under {min_goal:g}"
            sides = tally.only(sides, lambda side: side.record.goal >= min_goal, too_low)
        found = list(sides)
    records = sample_of(found, limit, seed, tally)
    write_kept(tally, "dialogue", [(path, [record.dump() for record in records])])
    scenarios = len({record.env for record in records})
    print(f"{scenarios} scenarios (published: 100), mean goal {mean([record.goal for record in records])}")
