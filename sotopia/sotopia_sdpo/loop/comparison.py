"""The steps of a comparison on one SFT agent: the data of the methods, their trainings, tuning and evaluations."""

from dataclasses import replace
from pathlib import Path

from sotopia_sdpo.loop import remarks, tuning
from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.compare_settings import CompareSettings
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.loop.machine import Machine, option_of
from sotopia_sdpo.loop.methods import LENGTHS, METHODS
from sotopia_sdpo.loop.presets import SOTOPIA
from sotopia_sdpo.loop.scenarios import DEVELOPMENT
from sotopia_sdpo.loop.settings import Words
from sotopia_sdpo.make.steps import Copy, Step, script
from sotopia_sdpo.step_files import ETO_PAIRS, NEGATIVE_COMBOS, NEGATIVES, PAIRS, SEGMENT_PAIRS


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
        held: tuple[tuple[str, str], ...] = ()
        if settings.held_out and not method.is_sft:
            is_evaluated = str(option_of("do_eval=", config, options)).lower() == "true"
            held = (("val_size", str(settings.held_out)), *(() if is_evaluated else (("do_eval", "true"),)))
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
