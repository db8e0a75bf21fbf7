"""The methods side by side: from one SFT agent and its negatives, trains each on
its own data and evaluates it.

    bash dpo/compare.sh         goes on from what dpo/demo.sh made, or makes it
    bash dpo/compare.sh SEEDS="1 2 3 4 5" TRIALS=5

Ends with a table in the shape of the paper's: methods first, then segment
lengths. Killed and started again, it goes on where it was.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.loop import command_line, outcomes
from sotopia_sdpo.loop.common_steps import CommonSteps, script
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.runner import Runner, say
from sotopia_sdpo.loop.settings import DEMO_SERVING, ROOT, Settings, Words, file, setting, words
from sotopia_sdpo.loop.steps import Copy, Step
from sotopia_sdpo.step_files import ETO_PAIRS, NEGATIVE_COMBOS, NEGATIVES, PAIRS, POSITIVES, SEGMENT_PAIRS


LENGTHS = {"3": "of length 3", "rest": "to the end"}


class Method(NamedTuple):
    """How an arm is trained."""

    options: tuple[str, ...]
    data: str
    folder: str = ""
    """Where the data is, in the run folder."""
    is_sft: bool = False


def on_segments(*options: str, folder: str = "") -> Method:
    """Return the method that trains SDPO on pairs that were cut."""
    return Method(("stage=sdpo", *options, "dataset=preference_data"), SEGMENT_PAIRS.name, folder)


METHODS = {
    "preferred_sft": Method(("stage=sft", "dataset=positive_data"), POSITIVES.name, is_sft=True),
    "dpo": on_segments("segment_scope=turn"),  # segments of length 1
    "eto": Method(("stage=eto", "dataset=eto_data"), ETO_PAIRS.name),
    "dmpo": Method(("stage=dmpo", "dataset=eto_data"), ETO_PAIRS.name),
    "sdpo": on_segments(),
    "sdpo_3": on_segments(folder="3"),
    "sdpo_rest": on_segments(folder="rest"),
}


def arms(text: str) -> Words:
    """Read names of methods."""
    names = words(text)
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no arm is named {name}; there are {' '.join(METHODS)}")
    return names


@dataclass(frozen=True)
class CompareSettings(Settings):
    """The loop's settings, and which methods are compared."""

    serve_config: Path = setting(str(DEMO_SERVING[(ROOT / ".venv-vllm").is_dir()]), "How agents are served.", file)
    arms: Words = setting(" ".join(METHODS), "The methods.", arms)
    seeds: Words = setting(
        "1 2 3", "For each, every method is trained and evaluated, and the SFT agent evaluated.", words
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


def main(arguments: Sequence[str] | None = None, machine: type[Machine] = Machine) -> int:
    """Run the comparison, and return the exit code."""
    script = command_line.Script("bash dpo/compare.sh", __doc__ or "", CompareSettings, loop)
    return command_line.run(script, arguments, machine)


def loop(settings: CompareSettings, machine: Machine, runner: Runner) -> None:
    """Run the steps and show what came out."""
    steps = Comparison(settings, machine)
    evaluated = {"sft": [steps.evaluated(f"eval.sft.{seed}", f"SFT, evaluation {seed}") for seed in settings.seeds]}
    runner.steps([*steps.to_agent(), *steps.to_pairs(), *steps.to_sessions(), *map(steps.cut, LENGTHS)])
    for step in evaluated["sft"]:
        runner.aside(step)
    for seed in settings.seeds:
        for arm in settings.arms:
            train, evaluate = steps.train_arm(arm, seed), steps.evaluate_arm(arm, seed)
            with runner.branch():
                runner.steps([train, evaluate])
            evaluated.setdefault(arm, []).append(evaluate)
    command_line.show_results(runner, evaluated, "compare.json")
    say(f"results: {settings.run}/compare.json")


class Comparison(CommonSteps):
    """The steps of the loop, and those of the methods."""

    settings: CompareSettings

    def to_sessions(self) -> list[Step]:
        """Return the steps to pairs of whole sessions."""
        combos, negatives, pairs = (self.run / one.name for one in (NEGATIVE_COMBOS, NEGATIVES, ETO_PAIRS))
        keep = Step(
            "eto_pairs",
            "keep those that went better",
            (script("data_filtering_positive", "--pairs", "eto", "--tag", "sessions-{sessions}", *self.wording),),
            reads=(negatives,),
            writes=(pairs,),
            outcome=outcomes.records("pairs", pairs, per_unit=2),
        )
        return [self.sampled("sessions", "sample whole sessions", "pos", *self.new_trials(), reads=(combos,)), keep]

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
            outcome=outcomes.records("pairs", cut, per_unit=2),
        )

    def train_arm(self, arm: str, seed: str) -> Step:
        """Return the step that trains a method."""
        method, settings = METHODS[arm], self.settings
        config = settings.sft_config if method.is_sft else settings.sdpo_config
        options = settings.preferred_sft_options if method.is_sft else settings.pair_options
        where = (f"dataset_dir={self.run / method.folder}",) if method.folder else ()
        return self.trained(
            Step(
                f"train.{arm}.{seed}",
                f"{arm}, seed {seed}: train",
                (),
                reads=(self.run / method.folder / method.data,),
            ),
            config,
            (self.agent, self._model(arm, seed)),
            (f"seed={seed}", *options, *method.options, *where),
        )

    def evaluate_arm(self, arm: str, seed: str) -> Step:
        """Return the step that evaluates a method."""
        return self.evaluated(f"eval.{arm}.{seed}", f"{arm}, seed {seed}: evaluate", self._model(arm, seed))

    def _model(self, arm: str, seed: str) -> Path:
        return self.run / "compare" / f"{arm}-{seed}"


if __name__ == "__main__":
    sys.exit(main())
