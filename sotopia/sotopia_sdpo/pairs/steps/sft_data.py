"""Make SFT data of the experts' episodes: the scored episodes of task `sft` -> sft_data.json."""

from typing import Annotated

import typer

from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import sample_of, sides_of
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import SFT_DATA
from sotopia_sdpo.store import database_url, open_store


MinGoal = Annotated[
    float | None, typer.Option(show_default=False, help="Only sides with at least this goal score. (default: all)")
]


def main(
    models: options.Models = None,
    partner_model: options.Partner = "",
    evaluator_model: options.Evaluator = "",
    tag: options.Tags = None,
    min_goal: MinGoal = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    output: options.Output = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Make SFT data of the experts' episodes: one dialogue for each side of each."""
    tally = Tally("sides")
    wanted = options.wanted(models, partner_model, evaluator_model, tag)
    with open_store(database_url(db, data_dir), create=False) as store:
        runs = choose_runs(store, "sft", wanted, mixed_agents=True)
        sides = sides_of(store, runs, load_template(prompt_template), tally, both=True)
        if min_goal is not None:
            too_low = f"with a goal score under {min_goal:g}"
            sides = tally.only(sides, lambda side: side.record.goal >= min_goal, too_low)
        found = [side.record for side in sides]
    records = sample_of(found, limit, seed, tally)
    path = options.place(output, SFT_DATA, data_dir)
    write_kept(tally, "dialogue", [(path, [record.dump() for record in records])])
    scenarios = len({record.env for record in records})
    print(f"{scenarios} scenarios (published: 100), mean goal {mean([record.goal for record in records])}")
