"""Rounds of the loop: each samples the newest agent, and trains it on.

Comes in: the settings. Goes out: the steps of each round, and whether another one is begun.
Invariant: the files of round 1 lie in the run folder, those of round N in its folder round-N by the same names; the
database and the annotator's answers are those of the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.loop import remarks
from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.common_steps import CommonSteps
from sotopia_sdpo.loop.configs import read_config
from sotopia_sdpo.loop.machine import Machine
from sotopia_sdpo.loop.settings import Settings, count, setting, yes
from sotopia_sdpo.make.steps import Copy, Step, script
from sotopia_sdpo.results.compare import compare
from sotopia_sdpo.results.scores import scores_of
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.step_files import MIXED_PAIRS, SEGMENT_PAIRS
from sotopia_sdpo.store.base import Store


LAST, SFT = "last", "sft"


def reference(text: str) -> str:
    """Read which agent the reference is."""
    if text not in (LAST, SFT):
        raise ValueError(f"expected {LAST} or {SFT}")
    return text


@dataclass(frozen=True)
class RoundSettings(Settings):
    """The loop's settings, and those of its rounds."""

    rounds: int = setting(
        "1", "How many rounds: in each, the newest agent is sampled, and trained on its mistakes.", count
    )
    reference: str = setting(
        LAST,
        "What a later round's agent is held to: `last`, the agent that it starts from; `sft`, the SFT agent.",
        reference,
    )
    stop_early: bool = setting(
        "yes",
        "Whether the rounds end with the first one without a gain, that is, whose paired difference from the round "
        "before has a 95 % interval that is not above 0. `no` runs all ROUNDS.",
        yes,
    )
    swap: bool = setting(
        "no",
        "Whether one vLLM server goes on through all rounds, and is given the adapter of each. It needs "
        "finetuning_type=lora in SDPO_OPTIONS and vLLM in SERVE_CONFIG, and keeps its memory during training.",
        yes,
    )


class Round(CommonSteps):
    """The steps of a round."""

    settings: RoundSettings

    def __init__(self, settings: RoundSettings, machine: Machine, last: Self | None = None) -> None:
        """Take the settings, what trains and serves, and the round before, if there is one."""
        serving = _room_for_adapters(settings, machine) if settings.swap else ()
        super().__init__(
            settings, machine, last.number + 1 if last else 1, last.trained_agent if last else None, serving
        )
        self.last = last
        self.name = "sdpo" if last is None else f"round-{self.number}"
        """Of its agent, in tables."""

    @property
    def model(self) -> Path:
        """The folder of what it trains."""
        return self.folder / "sdpo"

    @property
    def trained_agent(self) -> Agent:
        """The agent that comes of it."""
        if not self.settings.swap:
            return Agent(self.model)
        return Agent(self.agent.model, (*self.agent.adapters, self.model / remarks.ADAPTER), self.named("sdpo"))

    @property
    def training_pairs(self) -> Path:
        """The pairs on which it trains."""
        return self.folder / (MIXED_PAIRS if self.last else SEGMENT_PAIRS).name

    def to_trained(self) -> list[Step]:
        """Return the steps from its agent to the one that comes of it."""
        return [*self.to_pairs(), *self._mixed(), self._sdpo()]

    def evaluation(self) -> Step:
        """Return the step that evaluates the agent that comes of it."""
        return self.evaluated(self.named("sdpo_eval"), "evaluate it", agent=self.trained_agent)

    def _mixed(self) -> list[Step]:
        """Return the step that mixes its pairs with those on which the round before has trained."""
        if self.last is None:
            return []
        new, old, target = self.folder / SEGMENT_PAIRS.name, self.last.training_pairs, self.training_pairs
        datasets = self.run / self.datasets.name
        mix = Step(
            self.named("mix"),
            "mix them with those of before",
            (
                script("mix", str(new), str(old), "--output", str(target)),
                Copy(datasets, self.datasets, f'"{SEGMENT_PAIRS.name}"', f'"{MIXED_PAIRS.name}"'),
            ),
            reads=(new, old, datasets),
            writes=(target, self.datasets),
            remark=remarks.records("pairs", target, per_unit=2),
        )
        return [mix]

    def _sdpo(self) -> Step:
        """Return the step that trains its agent on."""
        where = (f"dataset_dir={self.folder}",) if self.last else ()
        is_held = self.last is not None and self.settings.reference == SFT
        held = (f"ref_model={self.sft_agent}",) if is_held else ()
        adapters, swap = self.agent.adapters, self.settings.swap
        # A new adapter on top of the others: the reference is the agent without it.
        on_top = (
            (f"adapter_name_or_path={','.join(map(str, adapters))}", "create_new_adapter=true") if adapters else ()
        )
        step = self.trained(
            Step(
                self.named("sdpo"),
                "train SDPO",
                (),
                reads=(self.training_pairs, *adapters, *((self.sft_agent,) if is_held else ())),
            ),
            self.settings.sdpo_config,
            (self.agent.model, self.model),
            ("dataset=preference_data", *self.settings.sdpo_options, *where, *held, *on_top),
            merges=not swap,
        )
        return replace(step, is_alone=not swap)


def _room_for_adapters(settings: RoundSettings, machine: Machine) -> tuple[str, ...]:
    """Return how a server is told to load the adapters of all rounds, one on top of the other.

    Raises:
        UserError: if none are trained, or the server cannot.
    """
    training = settings.sdpo_config, settings.sdpo_options
    if not machine.is_adapter(*training):
        raise UserError("SWAP=yes: SDPO trains no adapters; add finetuning_type=lora to SDPO_OPTIONS")
    if read_config(settings.serve_config).get("infer_backend", "vllm") != "vllm":
        raise UserError(f"SWAP=yes: {settings.serve_config} does not serve with vLLM; set another SERVE_CONFIG")
    return "vllm_load_adapters=true", f"vllm_max_lora_rank={machine.rank_of(*training) * settings.rounds}"


def all_rounds(settings: RoundSettings, machine: Machine) -> Iterator[Round]:
    """Return the rounds, each from the agent of the one before."""
    one = None
    for _ in range(settings.rounds):
        one = Round(settings, machine, one)
        yield one


class Gain(NamedTuple):
    """What a round gains over the one before it, on the quests or combos that both were evaluated on."""

    dimension: str
    estimate: Estimate

    @property
    def is_shown(self) -> bool:
        """Whether the interval is above 0; where there is no interval, nothing says that it is not."""
        return not self.estimate.low <= 0

    def line(self) -> str:
        """Say it in a few words."""
        return f"{self.dimension} {decimals(self.estimate.mean, '+')}, 95 % interval {self.estimate.interval}"


def gain_of(store: Store, last: Sequence[str], newest: Sequence[str]) -> Gain:
    """Compare the evaluations of two rounds by their tags, on the first dimension that tables show."""
    found = compare(scores_of(store, last), scores_of(store, newest), ())[0].difference
    return Gain(*next(iter(found.items())))
