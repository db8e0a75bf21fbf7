"""Keep the sides of episodes that went badly.

Reads the scored episodes of task `neg`, writes negative_data.json for locate.py, and negative_combos.json for
`sotopia benchmark --task pos`. The default thresholds are those of the published code, `--preset paper` those of the
paper (arXiv 2501.01821); both scores are whole numbers.

    python dpo/data_filtering_negative.py
    python dpo/data_filtering_negative.py --partner-model gpt-4o --preset paper
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from sotopia_sdpo.play.dialogue import Template, load_template
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.draw import draw
from sotopia_sdpo.pairs.records import Negative
from sotopia_sdpo.pairs.runs import StoredRun, choose_runs
from sotopia_sdpo.pairs.sides import Side, sides_of
from sotopia_sdpo.pairs.tally import Tally, mean
from sotopia_sdpo.step_files import NEGATIVE_COMBOS, NEGATIVES, write_json
from sotopia_sdpo.store import database_url
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.tag import without_trial


class Preset(StrEnum):
    """Whose thresholds."""

    code = "code"
    paper = "paper"


class Thresholds(NamedTuple):
    """Which sides are negatives: at most this goal, or at most this relationship; None for no bound."""

    goal: float
    relationship: float | None
    per_role: int | None
    """Sides of one scenario, role and run."""


PRESETS = {Preset.code: Thresholds(7, 2, 3), Preset.paper: Thresholds(6, None, None)}

MaxGoal = Annotated[float | None, typer.Option(show_default=False, help="At most this goal score. (default: 7)")]
MaxRelationship = Annotated[
    float | None, typer.Option(show_default=False, help="Or at most this relationship score. (default: 2)")
]
MaxPerRole = Annotated[
    int | None,
    typer.Option(show_default=False, min=1, help="Sides of one scenario, role and run at most. (default: 3)"),
]
Presets = Annotated[Preset, typer.Option(help="Thresholds of the published code, or of the paper: goal under 7.")]
CombosOutput = Annotated[
    Path | None,
    typer.Option(show_default=False, help="Where negative_combos.json goes. (default: in the data folder)"),
]


def main(
    models: options.Models = None,
    partner_model: options.Partner = "",
    evaluator_model: options.Evaluator = "",
    tag: options.Tags = None,
    preset: Presets = Preset.code,
    max_goal: MaxGoal = None,
    max_relationship: MaxRelationship = None,
    max_per_role: MaxPerRole = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    output: options.Output = None,
    combos_output: CombosOutput = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Keep the sides of episodes that went badly."""
    typed = {"goal": max_goal, "relationship": max_relationship, "per_role": max_per_role}
    bounds = PRESETS[preset]._replace(**{name: value for name, value in typed.items() if value is not None})

    def step() -> None:
        wanted = options.wanted(models, partner_model, evaluator_model, tag)
        with open_store(database_url(db, data_dir), create=False) as store:
            runs = choose_runs(store, "neg", wanted)
            found, tally = bad_sides(store, runs, load_template(prompt_template), bounds)
        few = draw(found, bounds.per_role, seed, lambda side: side.record.name, role_of)
        tally.drop(f"over {bounds.per_role} of a scenario and role", len(found) - len(few))
        records = draw([side.record for side in few], limit, seed, lambda record: record.name)
        tally.drop("over --limit", len(few) - len(records))
        tally.keep(len(records))
        if not records:
            raise UserError(f"no negative is left: {tally.line()}; raise --max-goal, or sample more")
        paths = options.place(output, NEGATIVES, data_dir), options.place(combos_output, NEGATIVE_COMBOS, data_dir)
        write_json(zip(paths, ([r.dump() for r in records], [combo_of(r) for r in records]), strict=True))
        print(tally.line(paths))
        print(summary(records))

    options.end_with(step)


def bad_sides(store: Store, runs: list[StoredRun], template: Template, bounds: Thresholds) -> tuple[list[Side], Tally]:
    """Take the target's sides that are under a threshold, and count the others."""
    tally, found = Tally("sides"), []
    for side in sides_of(store, runs, template, tally):
        is_unkind = bounds.relationship is not None and side.record.relationship <= bounds.relationship
        if side.record.goal <= bounds.goal or is_unkind:
            found.append(side)
        else:
            tally.drop("too good")
    return found, tally


def role_of(side: Side) -> tuple[str, str, int]:
    """Say what the cap counts together."""
    return without_trial(side.episode.tag), side.record.env, side.record.agent_position


def combo_of(record: Negative) -> dict[str, Any]:
    """Write what task `pos` needs of a negative."""
    return {
        "env_id": record.env,
        "agent_ids": record.agents,
        "agent_position": record.agent_position,
        "episode": record.episode,
    }


def summary(records: list[Negative]) -> str:
    """Describe the negatives."""
    goal, relationship = mean([r.goal for r in records]), mean([r.relationship for r in records])
    scenarios = len({record.env for record in records})
    return f"{scenarios} scenarios (published: up to 310), mean goal {goal}, mean relationship {relationship}"


if __name__ == "__main__":
    options.script(main)
