"""Sessions of SOTOPIA in the loop: an agent and a partner, a judge, experts to learn from."""

from pathlib import Path

from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.players import SELF, Players
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.make.steps import Command, Service, Step, script, sotopia
from sotopia_sdpo.play.dialogue import SHIPPED


class Sessions:
    """Makes the commands that sample sessions."""

    def __init__(self, settings: Settings, players: Players) -> None:
        """Take the settings, and who plays."""
        self.settings = settings
        self.who = players
        template = settings.prompt_template
        self.wording: tuple[str, ...] = ("--prompt-template", template) if template else ()

    def experts(self) -> Step:
        """Return the step that samples the experts, with each other's like."""
        settings = self.settings
        experts = () if settings.sft_data else settings.experts
        options = (*_combos(settings.sft_combos), "--trials", str(settings.sft_trials))
        tags = {expert: f"experts-{{key}}-{expert}" for expert in experts}
        return Step(
            "experts",
            "sample the experts",
            tuple(
                self._benchmark("sft", tags[one], self.who.name(one), self.who.name(one), *options) for one in experts
            ),
            reads=self.reads() if experts else (),
            tags=tuple(tags.values()),
            services=self.who.scripted(*experts, settings.evaluator) if experts else (),
        )

    def of_experts(self) -> tuple[str, ...]:
        """Return the options that pick their episodes."""
        return tuple(word for one in self.settings.experts for word in ("--tag", f"experts-{{experts}}-{one}"))

    def episodes(self, agent: Agent, task: str, tag: str, *options: str) -> Command:
        """Return what samples the agent with the partner."""
        combos = (*_combos(self.settings.neg_combos), *_repeats(self.settings.neg_trials)) if task == "neg" else ()
        names = self.who.name(SELF, agent), self.who.name(self.settings.partner, agent)
        return self._benchmark(task, tag, *names, *combos, *options)

    def continuations(self, agent: Agent, script_name: str, tag: str, *options: str) -> Command:
        """Return the script that has the agent and the partner play on, and the judge score that."""
        settings = self.settings
        names = ("--model", self.who.name(SELF, agent), "--partner-model", self.who.name(settings.partner, agent))
        judge = ("--evaluator-model", self.who.name(settings.evaluator))
        bounds = ("--rollouts", str(settings.trials), "--concurrency", "{batch}", "--tag", tag)
        return script(script_name, "--by", "replay", *names, *judge, *bounds, *self.wording, *options, may_miss=True)

    def players(self, agent: Agent) -> tuple[Service, ...]:
        """Return the servers of those who play and judge."""
        return (self.who.agent(agent), *self.who.scripted(self.settings.partner, self.settings.evaluator))

    def reads(self) -> tuple[Path, ...]:
        """Return the files of splits and of the wording, where the settings name some."""
        template = self.settings.prompt_template
        return (*self._splits(), *((Path(template),) if template and template not in SHIPPED else ()))

    def _splits(self) -> tuple[Path, ...]:
        return (self.settings.splits,) if self.settings.splits else ()

    def _benchmark(self, task: str, tag: str, model: str, partner: str, *options: str) -> Command:
        world = [word for path in self._splits() for word in ("--splits", str(path))]
        judge = self.who.name(self.settings.evaluator)
        names = ("--models", model, "--partner-model", partner, "--evaluator-model", judge)
        bounds = ("--batch-size", "{batch}", "--limit", str(self.settings.limit))
        where = world if self.settings.import_ else ["--demo", *world]
        argv = ("benchmark", *where, "--task", task, "--tag", tag, *names, *bounds, *options, *self.wording)
        return sotopia(*argv, may_miss=True)


def _combos(count: int) -> tuple[str, ...]:
    return "--combos-per-env", str(count)


def _repeats(trials: int) -> tuple[str, ...]:
    # One is the default of the task, and not said, so that sessions of earlier versions are found.
    return ("--trials", str(trials)) if trials > 1 else ()
