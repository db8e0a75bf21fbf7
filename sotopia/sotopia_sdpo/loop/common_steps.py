"""What the steps of the loop do: the commands of each, and the files between them."""

from pathlib import Path

from sotopia_sdpo.loop import remarks
from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.machine import Machine, with_named_files
from sotopia_sdpo.loop.players import Players
from sotopia_sdpo.loop.presets import SOTOPIA
from sotopia_sdpo.loop.quests import Quests
from sotopia_sdpo.loop.sampling import Sampling
from sotopia_sdpo.loop.sessions import Sessions
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.make.steps import Command, Copy, Service, Step, script, sotopia
from sotopia_sdpo.pairs.options import By
from sotopia_sdpo.places import TRAINING
from sotopia_sdpo.step_files import LOCATED, NEGATIVE_COMBOS, NEGATIVES, PAIRS, POSITIVES, SEGMENT_PAIRS, SFT_DATA


DATASETS = TRAINING / "data" / "dataset_info.json"


class CommonSteps:
    """The steps that demo.sh and compare.sh share."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        number: int = 1,
        agent: Agent | None = None,
        serving: tuple[str, ...] = (),
    ) -> None:
        """Take the settings, and what trains and serves.

        Args:
            settings: the settings.
            machine: trains and serves.
            number: of the round; the files of the first one lie in the run folder itself.
            agent: whose episodes are looked through, by default the SFT agent.
            serving: what is changed of how agents are served.
        """
        self.settings = settings
        self.machine = machine
        self.number = number
        self.run = settings.run
        self.folder = self.run if number == 1 else self.run / f"round-{number}"
        self.datasets = self.folder / DATASETS.name
        self.sft_agent = settings.agent or self.run / "sft"
        self.agent = agent or Agent(self.sft_agent)
        self.players = Players(settings, machine, *serving)
        self.sampling: Sampling = (Sessions if settings.env == SOTOPIA else Quests)(settings, self.players)
        self.wording = self.sampling.wording
        # Continuations that locate a turn are the episodes that go on from it.
        self.continued = self.replays("locate") if settings.locate_by is By.replay else self.tag("positives")

    def to_agent(self) -> list[Step]:
        """Return the steps to an SFT agent; where there is one already, only the scenarios are needed."""
        to_sft = [] if self.settings.agent else [self.sampling.experts(), self._sft_data(), self._sft()]
        return [self._world(), *to_sft]

    def to_pairs(self) -> list[Step]:
        """Return the steps from there to pairs with key segments."""
        return [
            self.sampled(self.named("negatives"), "sample its episodes", "neg"),
            self._filter(),
            self._locate(),
            self.sampled(
                self.named("positives"),
                "sample anew from these turns",
                "hpos",
                *self.new_trials(),
                *self._home(),
                reads=(self.folder / LOCATED.name,),
                tag=self.continued if self.settings.locate_by is By.replay else "",
            ),
            self._pairs(),
            self._segments(),
        ]

    # ---- steps of a round

    def named(self, name: str) -> str:
        """Return the name of a step in this round."""
        return name if self.number == 1 else f"{name}.{self.number}"

    def tag(self, name: str) -> str:
        """Return the tag of the episodes of a step of this round."""
        return f"{self.named(name).replace('.', '-')}-{{{self.named(name)}}}"

    def replays(self, name: str) -> str:
        """Return the tag of the continuations that a step of this round plays."""
        return f"replays-{{{self.named(name)}}}"

    def _home(self) -> tuple[str, ...]:
        """Return the option that names the data folder of a later round."""
        return () if self.number == 1 else ("--data-dir", str(self.folder))

    def _between(self, source: Path, target: Path) -> tuple[str, ...]:
        """Return the options that name files of a later round; the answers stay in the data folder of the run."""
        return () if self.number == 1 else ("--input", str(source), "--output", str(target))

    # ---- steps

    def _world(self) -> Step:
        files = self.settings.import_
        imported = [sotopia("db", "import", *map(str, files))] if files else []
        return Step(
            "world",
            "the scenarios",
            (*imported, Copy(DATASETS, self.datasets, '"../../dpo/data/', '"')),
            reads=(DATASETS, *files),
            writes=(self.datasets,),
            fills_world=bool(files),
        )

    def _sft_data(self) -> Step:
        target, given = self.run / SFT_DATA.name, self.settings.sft_data
        return Step(
            "sft_data",
            "make SFT data of their episodes",
            (Copy(given, target) if given else script("sft_data", *self.sampling.of_experts(), *self.wording),),
            reads=(given,) if given else (),
            writes=(target,),
            remark=remarks.records("dialogues", target),
        )

    def _sft(self) -> Step:
        data, base = self.run / SFT_DATA.name, self.settings.base or f"{self.run}/base"
        size = ("--width", "128", "--layers", "4")
        make = ("{python}", "-m", "llamafactory_sdpo.demo.model", "--out", str(base), "--data", str(data), *size)
        return self.trained(
            Step("sft", "train the SFT agent", () if self.settings.base else (Command(make),), reads=(data,)),
            self.settings.sft_config,
            (base, self.sft_agent),
            ("dataset=sft_data", *self.settings.sft_options),
        )

    def _filter(self) -> Step:
        negatives = self.folder / NEGATIVES.name
        # Quests have no combos: a file that is never written would be missed at every start.
        combos = (self.folder / NEGATIVE_COMBOS.name,) if self.settings.env == SOTOPIA else ()
        options = ("--tag", self.tag("negatives"), *self.settings.neg_options, *self.wording, *self._home())
        return Step(
            self.named("filter"),
            "keep those that went badly",
            (script("data_filtering_negative", *options),),
            writes=(negatives, *combos),
            remark=remarks.records("sides", negatives),
        )

    def _locate(self) -> Step:
        negatives, located = self.folder / NEGATIVES.name, self.folder / LOCATED.name
        files = self._between(negatives, located)
        return Step(
            self.named("locate"),
            "locate the turns that went wrong",
            self._by(self.settings.locate_by, "locate", self.replays("locate"), files),
            reads=(negatives, *self._played_by(self.settings.locate_by)),
            writes=(located,),
            services=self._asked(self.settings.locate_by),
            remark=remarks.records("sides", located, of=negatives),
        )

    def _pairs(self) -> Step:
        pairs = self.folder / PAIRS.name
        return Step(
            self.named("pairs"),
            "keep the episodes that went better",
            (script("data_filtering_positive", "--tag", self.continued, *self.wording, *self._home()),),
            reads=(self.folder / LOCATED.name,),
            writes=(pairs, self.folder / POSITIVES.name),
            remark=remarks.records("pairs", pairs, per_unit=2),
        )

    def _segments(self) -> Step:
        pairs, cut = self.folder / PAIRS.name, self.folder / SEGMENT_PAIRS.name
        found = self._by(self.settings.segment_by, "auto_tail", self.continued, self._between(pairs, cut))
        return Step(
            self.named("segments"),
            "choose the key segments",
            (*found, script("report", str(cut))),
            reads=(pairs, *self._played_by(self.settings.segment_by)),
            writes=(cut, cut.with_suffix(".html")),
            services=self._asked(self.settings.segment_by),
            remark=remarks.records("pairs", cut, per_unit=2),
        )

    # ---- what they are made of

    def sampled(
        self,
        name: str,
        what: str,
        task: str,
        *options: str,
        agent: Agent | None = None,
        reads: tuple[Path, ...] = (),
        tag: str = "",
    ) -> Step:
        """Return a step that samples an agent with the partner, by default the one of the round."""
        tag, agent = tag or f"{name.replace('.', '-')}-{{key}}", agent or self.agent
        return Step(
            name,
            what,
            (*self.players.loaded(agent), self.sampling.episodes(agent, task, tag, *options)),
            reads=(*reads, *agent.adapters, *self.sampling.reads()),
            tags=(tag,),
            services=self.sampling.players(agent),
        )

    def _by(self, by: By, name: str, tag: str, files: tuple[str, ...]) -> tuple[Command, ...]:
        """Return what runs the script that finds turns: by continuations of this tag, or by asking a model."""
        if by is By.replay:
            return *self.players.loaded(self.agent), self.sampling.continuations(self.agent, name, tag, *files)
        return (script(name, "--model", self.players.name(self.settings.annotator), *files, may_miss=True),)

    def _played_by(self, by: By) -> tuple[Path, ...]:
        """Return the adapters of the agent that it has play on; its model is read with its server."""
        return self.agent.adapters if by is By.replay else ()

    def _asked(self, by: By) -> tuple[Service, ...]:
        """Return the servers of those whom it asks."""
        if by is By.replay:
            return self.sampling.players(self.agent)
        return self.players.scripted(self.settings.annotator)

    def evaluated(self, name: str, what: str, agent: Agent | None = None, options: tuple[str, ...] = ()) -> Step:
        """Return a step that evaluates an agent."""
        return self.sampled(name, what, self.settings.eval_task, *options, agent=agent)

    def trained(
        self,
        step: Step,
        config: Path,
        models: tuple[str | Path, Path],
        options: tuple[str, ...],
        merges: bool = True,
    ) -> Step:
        """Return a step that trains.

        Args:
            step: its name, what it does before, and the data it reads.
            config: the config.
            models: the one it starts from, a path where its content counts, and the one it makes.
            options: what is changed of the config.
            merges: whether an adapter is merged into its model.
        """
        start, made = models
        is_adapter = self.machine.is_adapter(config, options)
        trained = made / remarks.ADAPTER if is_adapter else made
        merge = (self.machine.merge(start, trained, made),) if is_adapter and merges else ()
        return Step(
            step.name,
            step.what,
            (*step.actions, self.machine.train(config, start, trained, *options), *merge),
            reads=(
                *step.reads,
                self.datasets,
                *with_named_files(config),
                *((start,) if isinstance(start, Path) else ()),
            ),
            # An adapter that is not merged is all that there is: in the model's own folder nothing would be found.
            writes=(made if merges else trained,),
            is_alone=True,
            remark=remarks.training(made),
        )

    def new_trials(self) -> tuple[str, ...]:
        """Return the option of how many sessions a negative gets."""
        return "--trials", str(self.settings.trials)
