"""Make SFT data of the experts' episodes: one dialogue for each side of each.

Reads the scored episodes of task `sft`, writes sft_data.json for `stage: sft`.

    python dpo/sft_data.py
    python dpo/sft_data.py --models gpt-4-turbo --min-goal 7
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from typing import Annotated

import typer

from sotopia_sdpo.play.dialogue import Template, load_template
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.draw import draw
from sotopia_sdpo.pairs.records import Negative
from sotopia_sdpo.pairs.runs import StoredRun, choose_runs
from sotopia_sdpo.pairs.sides import sides_of
from sotopia_sdpo.pairs.tally import Tally, mean
from sotopia_sdpo.step_files import SFT_DATA, write_json
from sotopia_sdpo.store import database_url
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store


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

    def step() -> None:
        wanted = options.wanted(models, partner_model, evaluator_model, tag)
        with open_store(database_url(db, data_dir), create=False) as store:
            runs = choose_runs(store, "sft", wanted, mixed_agents=True)
            found, tally = good_sides(store, runs, load_template(prompt_template), min_goal)
        records = draw(found, limit, seed, lambda record: record.name)
        tally.drop("over --limit", len(found) - len(records))
        tally.keep(len(records))
        if not records:
            raise UserError(f"no dialogue is left: {tally.line()}")
        path = options.place(output, SFT_DATA, data_dir)
        write_json([(path, [record.dump() for record in records])])
        print(tally.line([path]))
        scenarios = len({record.env for record in records})
        print(f"{scenarios} scenarios (published: 100), mean goal {mean([record.goal for record in records])}")

    options.end_with(step)


def good_sides(
    store: Store, runs: list[StoredRun], template: Template, min_goal: float | None
) -> tuple[list[Negative], Tally]:
    """Take the sides that are good enough, and count the others."""
    tally, found = Tally("sides"), []
    for side in sides_of(store, runs, template, tally, both=True):
        if min_goal is None or side.record.goal >= min_goal:
            found.append(side.record)
        else:
            tally.drop(f"with a goal score under {min_goal:g}")
    return found, tally


if __name__ == "__main__":
    options.script(main)
