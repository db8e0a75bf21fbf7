"""What the steps of the loop do: the commands of each, and the files between them."""

from pathlib import Path

from sotopia_sdpo.loop import outcomes
from sotopia_sdpo.loop.machine import Machine, with_named_files
from sotopia_sdpo.loop.settings import ROOT, Settings
from sotopia_sdpo.loop.steps import Command, Copy, Service, Step
from sotopia_sdpo.play.dialogue import SHIPPED
from sotopia_sdpo.step_files import LOCATED, NEGATIVE_COMBOS, NEGATIVES, PAIRS, POSITIVES, SEGMENT_PAIRS, SFT_DATA


DATASETS = ROOT / "LLaMA-Factory" / "data" / "dataset_info.json"
SIMULATED = "simulated/"
SELF = "self"


class CommonSteps:
    """The steps that demo.sh and compare.sh share."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        """Take the settings, and what trains and serves."""
        self.settings = settings
        self.machine = machine
        self.run = settings.run
        self.datasets = self.run / DATASETS.name
        self.agent = self.run / "sft"
        self.wording = ("--prompt-template", settings.prompt_template) if settings.prompt_template else ()

    def to_agent(self) -> list[Step]:
        """Return the steps to an SFT agent."""
        return [self._world(), self._experts(), self._sft_data(), self._sft()]

    def to_pairs(self) -> list[Step]:
        """Return the steps from there to pairs with key segments."""
        return [
            self.sampled("negatives", "sample its sessions", "neg", *self._combos(self.settings.neg_combos)),
            self._filter(),
            self._locate(),
            self.sampled(
                "positives",
                "sample anew from these turns",
                "hpos",
                *self.new_trials(),
                reads=(self.run / LOCATED.name,),
            ),
            self._pairs(),
            self._segments(),
        ]

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

    def _experts(self) -> Step:
        experts = () if self.settings.sft_data else self.settings.experts
        options = (*self._combos(self.settings.sft_combos), "--trials", str(self.settings.sft_trials))
        tags = {expert: f"experts-{{key}}-{expert}" for expert in experts}
        sampled = [
            self._benchmark("sft", tags[expert], self.model(expert), self.model(expert), *options)
            for expert in experts
        ]
        services = self._scripted(*experts, self.settings.evaluator) if experts else ()
        reads = self._sampling_reads() if experts else ()
        what = "sample the experts"
        return Step("experts", what, tuple(sampled), reads=reads, tags=tuple(tags.values()), services=services)

    def _sft_data(self) -> Step:
        target, given = self.run / SFT_DATA.name, self.settings.sft_data
        tags = [word for expert in self.settings.experts for word in ("--tag", f"experts-{{experts}}-{expert}")]
        return Step(
            "sft_data",
            "make SFT data of their sessions",
            (Copy(given, target) if given else script("sft_data", *tags, *self.wording),),
            reads=(given,) if given else (),
            writes=(target,),
            outcome=outcomes.records("dialogues", target),
        )

    def _sft(self) -> Step:
        data, base = self.run / SFT_DATA.name, self.settings.base or f"{self.run}/base"
        size = ("--width", "128", "--layers", "4")
        make = ("{python}", "-m", "llamafactory_sdpo.demo.model", "--out", str(base), "--data", str(data), *size)
        return self.trained(
            Step("sft", "train the SFT agent", () if self.settings.base else (Command(make),), reads=(data,)),
            self.settings.sft_config,
            (base, self.agent),
            ("dataset=sft_data", *self.settings.sft_options),
        )

    def _filter(self) -> Step:
        negatives = self.run / NEGATIVES.name
        options = ("--tag", "negatives-{negatives}", *self.settings.neg_options, *self.wording)
        return Step(
            "filter",
            "keep those that went badly",
            (script("data_filtering_negative", *options),),
            writes=(negatives, self.run / NEGATIVE_COMBOS.name),
            outcome=outcomes.records("sides", negatives),
        )

    def _locate(self) -> Step:
        negatives, located = self.run / NEGATIVES.name, self.run / LOCATED.name
        return Step(
            "locate",
            "locate the turns that went wrong",
            (script("locate", "--model", self.model(self.settings.annotator), may_miss=True),),
            reads=(negatives,),
            writes=(located,),
            services=self._scripted(self.settings.annotator),
            outcome=outcomes.records("sides", located, of=negatives),
        )

    def _pairs(self) -> Step:
        pairs = self.run / PAIRS.name
        return Step(
            "pairs",
            "keep the sessions that went better",
            (script("data_filtering_positive", "--tag", "positives-{positives}", *self.wording),),
            reads=(self.run / LOCATED.name,),
            writes=(pairs, self.run / POSITIVES.name),
            outcome=outcomes.records("pairs", pairs, per_unit=2),
        )

    def _segments(self) -> Step:
        pairs, cut = self.run / PAIRS.name, self.run / SEGMENT_PAIRS.name
        ask = script("auto_tail", "--model", self.model(self.settings.annotator), may_miss=True)
        return Step(
            "segments",
            "choose the key segments",
            (ask, script("report", str(cut))),
            reads=(pairs,),
            writes=(cut, cut.with_suffix(".html")),
            services=self._scripted(self.settings.annotator),
            outcome=outcomes.records("pairs", cut, per_unit=2),
        )

    # ---- what they are made of

    def sampled(
        self, name: str, what: str, task: str, *options: str, agent: Path | None = None, reads: tuple[Path, ...] = ()
    ) -> Step:
        """Return a step that samples an agent with the partner, by default the SFT agent."""
        tag, partner = f"{name.replace('.', '-')}-{{key}}", self.settings.partner
        return Step(
            name,
            what,
            (self._benchmark(task, tag, self.model(SELF), self.model(partner), *options),),
            reads=(*reads, *self._sampling_reads()),
            tags=(tag,),
            services=(self.machine.serve(agent or self.agent), *self._scripted(partner, self.settings.evaluator)),
        )

    def evaluated(self, name: str, what: str, agent: Path | None = None) -> Step:
        """Return a step that evaluates an agent."""
        return self.sampled(name, what, self.settings.eval_task, agent=agent)

    def trained(self, step: Step, config: Path, models: tuple[str | Path, Path], options: tuple[str, ...]) -> Step:
        """Return a step that trains.

        Args:
            step: its name, what it does before, and the data it reads.
            config: the config.
            models: the one it starts from, a path where its content counts, and the one it makes.
            options: what is changed of the config.
        """
        start, made = models
        return Step(
            step.name,
            step.what,
            (*step.actions, self.machine.train(config, start, made, *options)),
            reads=(
                *step.reads,
                self.datasets,
                *with_named_files(config),
                *((start,) if isinstance(start, Path) else ()),
            ),
            writes=(made,),
            is_alone=True,
            outcome=outcomes.training(made),
        )

    def model(self, name: str) -> str:
        """Return what the commands call a model."""
        if name == SELF:
            return f"custom/{self.machine.agent}@{{agent}}"
        return f"custom/{name.removeprefix(SIMULATED)}@{{simulation}}" if name.startswith(SIMULATED) else name

    def new_trials(self) -> tuple[str, ...]:
        """Return the option of how many sessions a negative gets."""
        return "--trials", str(self.settings.trials)

    def _combos(self, count: int) -> tuple[str, ...]:
        return "--combos-per-env", str(count)

    def _sampling_reads(self) -> tuple[Path, ...]:
        """Return the files that sampling reads besides those of the steps."""
        template = self.settings.prompt_template
        return (*self._splits(), *((Path(template),) if template and template not in SHIPPED else ()))

    def _splits(self) -> tuple[Path, ...]:
        return (self.settings.splits,) if self.settings.import_ and self.settings.splits else ()

    def _scripted(self, *models: str) -> tuple[Service, ...]:
        """Return the scripted server, if one of the models is played by it."""
        if not any(model.startswith(SIMULATED) for model in models):
            return ()
        options = self.settings.simulate

        def argv(port: int) -> tuple[str, ...]:
            return sotopia("simulate", "--port", str(port), *options).argv

        return (Service("simulation", "simulate", argv, words=options),)

    def _benchmark(self, task: str, tag: str, model: str, partner: str, *options: str) -> Command:
        """Return what samples sessions."""
        world = [word for path in self._splits() for word in ("--splits", str(path))]
        names = (
            "--models",
            model,
            "--partner-model",
            partner,
            "--evaluator-model",
            self.model(self.settings.evaluator),
        )
        bounds = ("--batch-size", "{batch}", "--limit", str(self.settings.limit))
        where = world if self.settings.import_ else ["--demo"]
        argv = ("benchmark", *where, "--task", task, "--tag", tag, *names, *bounds, *options, *self.wording)
        return sotopia(*argv, may_miss=True)


def script(name: str, *options: str, may_miss: bool = False) -> Command:
    """Return the command of a script of dpo/."""
    return Command(("{python}", str(ROOT / "dpo" / f"{name}.py"), *options), may_miss)


def sotopia(*arguments: str, may_miss: bool = False) -> Command:
    """Return a command of `sotopia`."""
    return Command(("{python}", "-m", "sotopia_sdpo", *arguments), may_miss)
