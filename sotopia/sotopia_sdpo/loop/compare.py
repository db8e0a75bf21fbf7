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
from dataclasses import dataclass, replace
from pathlib import Path

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import arms as results
from sotopia_sdpo.loop import command_line, held_out, remarks, tuning
from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.methods import FLAGS, LENGTHS, METHODS
from sotopia_sdpo.loop.places import DEMO_SERVING
from sotopia_sdpo.loop.presets import SOTOPIA
from sotopia_sdpo.loop.scenarios import DEVELOPMENT, LEARNING, split_files
from sotopia_sdpo.loop.settings import Settings, Words, count, file, number, numbers, setting, words, yes
from sotopia_sdpo.make.runner import Runner, say
from sotopia_sdpo.make.steps import Copy, Step, script
from sotopia_sdpo.places import ROOT
from sotopia_sdpo.results.league import Arm, league_of
from sotopia_sdpo.step_files import ETO_PAIRS, NEGATIVE_COMBOS, NEGATIVES, PAIRS, SEGMENT_PAIRS, SFT_DATA
from sotopia_sdpo.store import open_store


SCORES = "scores.csv"
"""Of all episodes of the evaluation: `dpo/results.py --from` puts those of several machines together."""


def arms(text: str) -> Words:
    """Read names of methods, each once."""
    names = tuple(dict.fromkeys(words(text)))
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no arm is named {name}; there are {' '.join(METHODS)}")
    return names


def seeds(text: str) -> Words:
    """Read whole numbers with blanks between them, each once."""
    found = tuple(dict.fromkeys(words(text)))
    if not found or not all(map(str.isdecimal, found)):
        raise ValueError("expected whole numbers with blanks between them")
    return found


@dataclass(frozen=True)
class CompareSettings(Settings):
    """The loop's settings, and which methods are compared."""

    serve_config: Path = setting(str(DEMO_SERVING[(ROOT / ".venv-vllm").is_dir()]), "How agents are served.", file)
    arms: Words = setting(
        " ".join(name for name, method in METHODS.items() if not method.is_planted),
        "The methods. sft_again is a control: SFT once more, which should come out like SFT.",
        arms,
    )
    seeds: Words = setting(
        "1 2 3", "Seeds. With each, every method is trained and evaluated, and the SFT agent evaluated.", seeds
    )
    pair_options: Words = setting(
        "$SDPO_OPTIONS",
        "What is changed of SDPO_CONFIG for the methods that train on pairs.",
        words,
        may_be_empty=True,
    )
    # 5 times the learning rate of the others, as in the paper.
    preferred_sft_options: Words = setting(
        "learning_rate=2.5e-4 num_train_epochs=3",
        "What is changed of SFT_CONFIG for preferred_sft.",
        words,
        may_be_empty=True,
    )
    agents: int = setting("1", "SFT agents, each with its own seed and negatives, in RUN and RUN/agent-N.", count)
    held_out: int = setting("0", "Pairs that are held out of every training on pairs; 0: as its options say.", number)
    tune: bool = setting("no", "Whether methods are tuned on development scenarios.", yes)
    dev_splits: Words = setting(
        "dev-round-1",
        "Tuning: splits whose scenarios are for tuning alone; the agent does not learn from them.",
        words,
    )
    rates: tuple[float, ...] = setting(
        "0.25 0.5 1 2", "Tuning: factors by which the learning rate of a method's options is multiplied.", numbers
    )
    knobs: bool = setting(
        "yes", "Tuning: whether one more option of a method is tried at two other values, at the best rate.", yes
    )
    dev_trials: int = setting("2", "Tuning: how often each combo and role is played; quests once.", number)
    dev_quests: int = setting("100", "Tuning, with ENV: quests of its dev split that are played.", number)
    csv: bool = setting("no", "Whether compare.csv is written.", yes)
    latex: bool = setting("no", "Whether compare.tex is written.", yes)
    figure: bool = setting("no", "Whether compare.png and curves.png are drawn.", yes)


def main(arguments: Sequence[str] | None = None, machine: type[Machine] = Machine) -> int:
    """Run the comparison, and return the exit code."""
    script = command_line.Script("bash dpo/compare.sh", __doc__ or "", CompareSettings, loop, FLAGS)
    return command_line.run(script, arguments, machine)


def loop(settings: CompareSettings, machine: Machine, runner: Runner) -> None:
    """Run the steps and show what came out."""
    if settings.agent and settings.agents > 1:
        raise UserError(f"AGENTS={settings.agents}: AGENT={settings.agent} is one agent; leave one of the two out")
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


def compete(steps: "Comparison", runner: Runner) -> list[Arm]:
    """Run all arms on one SFT agent; what was picked in tuning holds for the agents after the first as well."""
    settings = steps.settings
    evaluated = {"sft": [steps.evaluate_sft(seed) for seed in settings.seeds]}
    runner.steps([*steps.to_agent(), *steps.to_pairs(), *steps.to_sessions(), *map(steps.cut, LENGTHS)])
    for step in evaluated["sft"]:
        runner.aside(step)
    if settings.tune and not steps.picked:
        knobs = {
            arm: METHODS[arm].knob if settings.knobs else tuning.NONE
            for arm in settings.arms
            if not METHODS[arm].is_planted
        }
        steps.picked.update(tuning.tune(steps, runner, knobs, settings.rates))
    for seed in settings.seeds:
        for arm in settings.arms:
            train, evaluate = steps.train_arm(arm, seed), steps.evaluate_arm(arm, seed)
            with runner.branch():
                runner.steps([train, evaluate])
            evaluated.setdefault(arm, []).append(evaluate)
    if runner.is_planning:
        return []
    with open_store(runner.database.url, create=False) as store:
        runs = [f"{seed}/{steps.agent_number}" for seed in settings.seeds]
        return [
            results.arm_of(store, arm, {run: runner.tags(step)[0] for run, step in zip(runs, found, strict=True)})
            for arm, found in evaluated.items()
        ]


class Comparison(CommonSteps):
    """The steps of the loop, and those of the methods."""

    settings: CompareSettings

    def __init__(
        self, settings: CompareSettings, machine: Machine, agent: int, picked: dict[str, tuning.Options]
    ) -> None:
        """Take the settings, what trains and serves, and the SFT agent by its number.

        Args:
            settings: of this agent.
            machine: of this agent.
            agent: from 1.
            picked: by method, what tuning has picked.
        """
        super().__init__(settings, machine)
        self.agent_number, self.picked = agent, picked

    def to_sessions(self) -> list[Step]:
        """Return the steps to pairs of whole sessions."""
        combos, negatives, pairs = (self.run / one.name for one in (NEGATIVE_COMBOS, NEGATIVES, ETO_PAIRS))
        keep = Step(
            "eto_pairs",
            "keep those that went better",
            (script("data_filtering_positive", "--pairs", "eto", "--tag", "sessions-{sessions}", *self.wording),),
            reads=(negatives,),
            writes=(pairs,),
            remark=remarks.records("pairs", pairs, per_unit=2),
        )
        return [
            self.sampled("sessions", "sample whole episodes", "pos", *self.new_trials(), reads=(combos, negatives)),
            keep,
        ]

    def cut(self, length: str) -> Step:
        """Return the step that cuts segments of a length, into a folder of that name."""
        folder = self.run / length
        pairs, datasets, cut = self.run / PAIRS.name, folder / self.datasets.name, folder / SEGMENT_PAIRS.name
        return Step(
            f"cut.{length}",
            f"cut segments {LENGTHS[length]}",
            (Copy(self.datasets, datasets), script("auto_tail", "--length", length, "--output", str(cut))),
            reads=(pairs, self.datasets),
            writes=(cut, datasets),
            remark=remarks.records("pairs", cut, per_unit=2),
        )

    def train_arm(self, arm: str, seed: str) -> Step:
        """Return the step that trains a method at what was picked for it: that of tuning, if the seed is the same."""
        if self._is_tuned(arm, seed):
            return self.tune_arm(arm, self.picked[arm])
        name, what = f"train.{arm}.{seed}", f"{arm}, seed {seed}: train"
        return self._train(arm, (name, what), seed, self.picked.get(arm, ()), self.model(arm, seed))

    def tune_arm(self, arm: str, options: tuning.Options) -> Step:
        """Return the step that trains a candidate of a method's tuning."""
        name, what = f"tune.{arm}.{tuning.name_of(options)}", f"{arm}, {' '.join('='.join(one) for one in options)}"
        return self._train(arm, (name, what), tuning.SEED, options, self._candidate(arm, options))

    def _train(self, arm: str, named: tuple[str, str], seed: str, chosen: tuning.Options, model: Path) -> Step:
        method, settings = METHODS[arm], self.settings
        config, options = self._usual(arm)
        where = (f"dataset_dir={self.run / method.folder}",) if method.folder else ()
        held = (("val_size", str(settings.held_out)),) if settings.held_out and not method.is_sft else ()
        start = (settings.base or self.run / "base") if method.is_planted else self.agent.model
        return self.trained(
            Step(*named, (), reads=(self.run / method.folder / method.data,)),
            config,
            (start, model),
            tuning.merged((f"seed={seed}", *options, *method.options, *where), (*held, *chosen)),
        )

    def _usual(self, arm: str) -> tuple[Path, Words]:
        """Return the config of a method, and what is changed of it before it is tuned."""
        method, settings = METHODS[arm], self.settings
        if method.is_planted:
            return settings.sft_config, settings.sft_options
        if method.is_sft:
            return settings.sft_config, settings.preferred_sft_options
        return settings.sdpo_config, settings.pair_options

    def rates(self, arm: str) -> list[tuning.Options]:
        """Return the candidates of a method by learning rate."""
        config, options = self._usual(arm)
        given = dict(word.split("=", 1) for word in options if "=" in word)
        default = given.get(tuning.LEARNING_RATE) or read_config(config).get(tuning.LEARNING_RATE)
        return tuning.rates(str(default), self.settings.rates)

    def on_development(self, arm: str, options: tuning.Options) -> Step:
        """Return the step that plays a candidate on the development scenarios."""
        candidate = Agent(self._candidate(arm, options))
        named = f"dev.{arm}.{tuning.name_of(options)}", f"{arm}: play it on development", candidate
        if self.settings.env != SOTOPIA:
            # The last --limit holds.
            bounds = ("--split", "dev", "--limit", str(self.settings.dev_quests))
            return replace(self.evaluated(*named, (*bounds, "--seed", tuning.SEED)), may_miss_all=True)
        world = CommonSteps(replace(self.settings, splits=self.run / DEVELOPMENT), self.machine)
        more = "--trials", str(self.settings.dev_trials), "--seed", tuning.SEED
        return replace(world.evaluated(*named, more), may_miss_all=True)

    def evaluate_sft(self, seed: str) -> Step:
        """Return the step that evaluates the SFT agent."""
        return self.evaluated(f"eval.sft.{seed}", f"SFT, evaluation {seed}", options=("--seed", seed))

    def evaluate_arm(self, arm: str, seed: str) -> Step:
        """Return the step that evaluates a method; its samples have the seed of those of the SFT agent."""
        what = f"{arm}, seed {seed}: evaluate"
        return self.evaluated(f"eval.{arm}.{seed}", what, Agent(self.model(arm, seed)), ("--seed", seed))

    def model(self, arm: str, seed: str) -> Path:
        """Return the folder of a method's model."""
        if self._is_tuned(arm, seed):
            return self._candidate(arm, self.picked[arm])
        return self.run / "compare" / f"{arm}-{seed}"

    def _is_tuned(self, arm: str, seed: str) -> bool:
        """Return whether tuning has trained the very model."""
        return self.agent_number == 1 and arm in self.picked and seed == tuning.SEED

    def _candidate(self, arm: str, options: tuning.Options) -> Path:
        return self.run / "tune" / f"{arm}.{tuning.name_of(options)}"


if __name__ == "__main__":
    sys.exit(main())
