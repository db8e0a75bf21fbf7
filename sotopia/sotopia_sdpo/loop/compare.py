"""The methods side by side: from one SFT agent and its negatives, or several,
trains each on its own data and evaluates it.

    bash dpo/compare.sh         goes on from what dpo/demo.sh made, or makes it
    bash dpo/compare.sh SEEDS="1 2 3 4 5" TRIALS=5
    bash dpo/compare.sh --tune AGENTS=2
                                a run of its own, in which every method is tuned
                                alike on development scenarios before, and 40
                                pairs are held out
    bash dpo/compare.sh --tune AGENTS=2 --plan
                                what that would take; does nothing

Ends with a table in the shape of the paper's: methods first, then segment
lengths; --csv, --latex and --figure write it into the run folder as well.
Killed and started again, it goes on where it was.
"""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from operator import methodcaller
from pathlib import Path

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import arms as results
from sotopia_sdpo.loop import command_line, held_out, tuning
from sotopia_sdpo.loop.compare_settings import CompareSettings
from sotopia_sdpo.loop.comparison import Comparison
from sotopia_sdpo.loop.machine import Machine, option_of
from sotopia_sdpo.loop.methods import FLAGS, LENGTHS, METHODS
from sotopia_sdpo.loop.presets import SOTOPIA
from sotopia_sdpo.loop.scenarios import LEARNING, split_files
from sotopia_sdpo.make.lines import say
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.results.league import Arm, league_of
from sotopia_sdpo.step_files import SFT_DATA
from sotopia_sdpo.store import open_store


SCORES = "scores.csv"
"""Of all episodes of the evaluation: `dpo/results.py --from` puts those of several machines together."""


def main(arguments: Sequence[str] | None = None, machine: type[Machine] = Machine) -> int:
    """Run the comparison, and return the exit code."""
    script = command_line.Script("bash dpo/compare.sh", __doc__ or "", CompareSettings, loop, FLAGS)
    return command_line.run(script, arguments, machine)


def loop(settings: CompareSettings, machine: Machine, runner: Runner) -> None:
    """Run the steps and show what came out."""
    check(settings)
    picked: dict[str, tuning.Options] = {}
    found: list[list[Arm]] = []
    models: dict[str, list[Path]] = {arm: [] for arm in settings.arms}
    world = settings.splits, not settings.import_
    # An environment has its own split for development.
    splits = split_files(*world, settings.dev_splits) if settings.tune and settings.env == SOTOPIA else {}
    for agent in range(1, settings.agents + 1):
        own = settings_of(settings, agent)
        with nullcontext(runner) if agent == 1 else runner.inside(own.run.name) as here:
            if agent > 1 and not here.is_planning:
                say(f"agent {agent}: {own.run}")
            for name, text in splits.items():
                here.write(own.run / name, text)
            steps = Comparison(own, type(machine)(own), agent, picked)
            found.append(compete(steps, here))
            for arm, made in models.items():
                made += [steps.model(arm, seed) for seed in settings.seeds]
    if runner.is_planning:
        return
    league = league_of([results.joined(same) for same in zip(*found, strict=True)])
    wanted = {"csv": settings.csv, "tex": settings.latex, "png": settings.figure}
    paths = {ending: settings.run / f"compare.{ending}" for ending, is_wanted in wanted.items() if is_wanted}
    record, scores = settings.run / "compare.json", settings.run / SCORES
    results.publish(league, results.Files(record, paths.get("csv"), paths.get("tex"), paths.get("png"), scores))
    for line in held_out.lines(models):
        say(line)
    if settings.figure:
        held_out.curves(models, settings.run / "curves.png")
    say(" ".join(["results:", *map(str, (record, scores, *paths.values()))]))


def check(settings: CompareSettings) -> None:
    """Refuse settings under which a comparison would be none, or end late.

    Raises:
        UserError: with what helps.
    """
    if settings.agent and settings.agents > 1:
        raise UserError(f"AGENTS={settings.agents}: AGENT={settings.agent} is one agent; leave one of the two out")
    if settings.agent and (planted := [arm for arm in settings.arms if METHODS[arm].is_planted]):
        raise UserError(
            f"ARMS: {planted[0]} is trained like the SFT agent, whose data AGENT={settings.agent} has not; "
            "leave one of the two out"
        )
    first = str(option_of("seed=", settings.sft_config, settings.sft_options))
    if first in map(str, range(2, settings.agents + 1)):
        raise UserError(
            f"AGENTS={settings.agents}: the first agent has seed={first}, which is that of agent {first} too, so both "
            "would be one; give the first another in SFT_OPTIONS"
        )


def settings_of(settings: CompareSettings, agent: int) -> CompareSettings:
    """Return the settings of one SFT agent: the first one's run is that of all; the others take its SFT data."""
    if settings.tune and settings.env == SOTOPIA:
        own = settings.run if agent == 1 else settings.run / f"agent-{agent}"
        settings = replace(settings, splits=own / LEARNING)
    if agent == 1:
        return settings
    return replace(
        settings,
        run=settings.run / f"agent-{agent}",
        sft_data=settings.sft_data or settings.run / SFT_DATA.name,
        sft_options=tuning.merged(settings.sft_options, (("seed", str(agent)),)),
    )


def compete(steps: Comparison, runner: Runner) -> list[Arm]:
    """Run all arms on one SFT agent; what was picked in tuning holds for the agents after the first as well."""
    settings = steps.settings
    evaluated = {"sft": [steps.evaluate_sft(seed) for seed in settings.seeds]}
    runner.steps([*steps.to_agent(), *steps.to_pairs(), *steps.to_sessions(), *map(steps.cut, LENGTHS)])
    runner.branches([methodcaller("step", step) for step in evaluated["sft"]], settings.at_once)
    if settings.tune and not steps.picked:
        knobs = {
            arm: METHODS[arm].knob if settings.knobs else tuning.NONE
            for arm in settings.arms
            if not METHODS[arm].is_planted
        }
        steps.picked.update(tuning.tune(steps, runner, knobs, settings.rates, settings.at_once))
    cells = []
    for seed in settings.seeds:
        for arm in settings.arms:
            train, evaluate = steps.train_arm(arm, seed), steps.evaluate_arm(arm, seed)
            cells.append([train, evaluate])
            evaluated.setdefault(arm, []).append(evaluate)
    runner.branches([methodcaller("steps", cell) for cell in cells], settings.at_once)
    if runner.is_planning:
        return []
    with open_store(runner.database.url, create=False) as store:
        runs = [f"{seed}/{steps.agent_number}" for seed in settings.seeds]
        return [
            results.arm_of(store, arm, {run: runner.tags(step)[0] for run, step in zip(runs, found, strict=True)})
            for arm, found in evaluated.items()
        ]


if __name__ == "__main__":
    sys.exit(main())
