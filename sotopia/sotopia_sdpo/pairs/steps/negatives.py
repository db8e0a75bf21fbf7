"""Keep the sides of episodes that went badly: the scored episodes of task `neg` -> negative_data.json and its combos.

A side is a negative if its goal is at most a bound, or its relationship at most another one. A limited
number of sides of one scenario, role and run is drawn. With `--input`, the dialogues of a file are kept whose outcome
is below a bound, and of the episodes of an environment those whose score is, by default the highest; then there are
no combos.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from sotopia_sdpo.pairs import options
from sotopia_sdpo.pairs.draw import draw
from sotopia_sdpo.pairs.filtering import (
    InputOfLogs,
    OutcomeName,
    filter_of,
    filter_of_quests,
    read_any,
    refuse_outcome,
)
from sotopia_sdpo.pairs.quests import env_of, quest_sides, score_of
from sotopia_sdpo.pairs.records import PlayedSide
from sotopia_sdpo.pairs.runs import choose_runs
from sotopia_sdpo.pairs.sides import EpisodeSide, lot_of, sample_of, sides_of
from sotopia_sdpo.pairs.tally import Tally, mean, write_kept
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.step_files import NEGATIVE_COMBOS, NEGATIVES
from sotopia_sdpo.store import database_url, open_store
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

    def are_met(self, side: EpisodeSide) -> bool:
        """Return whether a side is a negative."""
        is_unkind = self.relationship is not None and side.record.relationship <= self.relationship
        return side.record.goal <= self.goal or is_unkind


PRESETS = {Preset.code: Thresholds(7, 2, 3), Preset.paper: Thresholds(6, None, None)}

MaxGoal = Annotated[float | None, typer.Option(show_default=False, help="At most this goal score. (default: 7)")]
MaxRelationship = Annotated[
    float | None, typer.Option(show_default=False, help="Or at most this relationship score. (default: 2)")
]
MaxPerRole = Annotated[
    int | None,
    typer.Option(show_default=False, min=1, help="At most this many of one scenario, role and run. (default: 3)"),
]
Presets = Annotated[Preset, typer.Option(help="Thresholds of the published code, or of the paper: goal under 7.")]
Below = Annotated[
    float | None,
    typer.Option(show_default=False, help="Keep dialogues whose outcome is less than this."),
]
AtMost = Annotated[
    float | None, typer.Option(show_default=False, help="Keep dialogues whose outcome is at most this.")
]
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
    input: InputOfLogs = None,  # noqa: A002 (what users type)
    outcome: OutcomeName = None,
    below: Below = None,
    at_most: AtMost = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    output: options.Output = None,
    combos_output: CombosOutput = None,
    prompt_template: options.PromptTemplate = None,
    db: options.Database = None,
    data_dir: options.DataDir = None,
) -> None:
    """Keep the sides of episodes that went badly."""
    named = {"--models": models, "--partner-model": partner_model, "--evaluator-model": evaluator_model, "--tag": tag}
    limits = {"--max-goal": max_goal, "--max-relationship": max_relationship, "--max-per-role": max_per_role}
    places = {"--combos-output": combos_output, "--prompt-template": prompt_template, "--db": db}
    theirs = {**limits, "--preset": None if preset is Preset.code else preset}
    outcome_bounds, target = {"--below": below, "--at-most": at_most}, options.place(output, NEGATIVES, data_dir)
    if chosen := filter_of(input, outcome, outcome_bounds, {**named, **theirs, **places}):
        chosen.write(read_any(Path(chosen.place)), Tally("dialogues"), "negative", target, limit, seed)
        return
    typed: dict[str, Any] = {"goal": max_goal, "relationship": max_relationship, "per_role": max_per_role}
    bounds = PRESETS[preset]._replace(**{name: value for name, value in typed.items() if value is not None})
    tally = Tally("sides")
    wanted = options.wanted(models, partner_model, evaluator_model, tag)
    with open_store(database_url(db, data_dir), create=False) as store:
        runs = choose_runs(store, "neg", wanted)
        if env_of(runs):
            tally = Tally("episodes")
            quests = [side.record for side in quest_sides(store, runs, tally)]
            score = score_of(quests, tally, "negative")
            default = "--below", score.high
            chosen = filter_of_quests(store.url, score, outcome, outcome_bounds, theirs, default)
            chosen.write(quests, tally, "negative", target, limit, seed)
            return
        refuse_outcome(outcome, outcome_bounds)
        sides = sides_of(store, runs, load_template(prompt_template), tally)
        found = list(tally.only(sides, bounds.are_met, "too good"))
    few = draw(found, bounds.per_role, seed, lot_of, role_of)
    tally.drop(f"over {bounds.per_role} of a scenario and role", len(found) - len(few))
    records = sample_of(few, limit, seed, tally)
    files = [
        (target, [record.dump() for record in records]),
        (options.place(combos_output, NEGATIVE_COMBOS, data_dir), [combo_of(record) for record in records]),
    ]
    write_kept(tally, "negative", files, "; raise --max-goal, or sample more")
    print(summary(records))


def role_of(side: EpisodeSide) -> tuple[str, str, int]:
    """Return what a side counts to under --max-per-role: its run, scenario and role."""
    return without_trial(side.episode.tag), side.record.env, side.record.agent_position


def combo_of(record: PlayedSide) -> dict[str, Any]:
    """Return what task `pos` needs of a negative."""
    return {
        "env_id": record.env,
        "agent_ids": record.agents,
        "agent_position": record.agent_position,
        "episode": record.episode,
    }


def summary(records: Sequence[PlayedSide]) -> str:
    """Describe the negatives."""
    goal, relationship = mean([r.goal for r in records]), mean([r.relationship for r in records])
    scenarios = len({record.env for record in records})
    return f"{scenarios} scenarios (published: up to 310), mean goal {goal}, mean relationship {relationship}"
