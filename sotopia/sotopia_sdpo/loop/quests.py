"""Quests of an environment in the loop: gold actions to learn from, then the agent alone; the environment scores."""

from pathlib import Path

from sotopia_sdpo.loop.agents import Agent
from sotopia_sdpo.loop.players import SELF, Players
from sotopia_sdpo.loop.settings import Settings
from sotopia_sdpo.make.steps import Command, Service, Step, script


class Quests:
    """Makes the commands that play quests."""

    wording: tuple[str, ...] = ()

    def __init__(self, settings: Settings, players: Players) -> None:
        """Take the settings, and who plays."""
        self.settings = settings
        self.who = players
        self._actions = ("--max-actions", str(settings.max_actions)) if settings.max_actions else ()

    def experts(self) -> Step:
        """Return the step that plays the gold actions."""
        tag = "experts-{key}"
        played = () if self.settings.sft_data else (self._rollout("sft", tag, self.settings.sft_quests),)
        return Step("experts", "play the gold actions", played, tags=(tag,) if played else ())

    def of_experts(self) -> tuple[str, ...]:
        """Return the options that pick their episodes."""
        return "--tag", "experts-{experts}"

    def episodes(self, agent: Agent, task: str, tag: str, *options: str) -> Command:
        """Return what plays the agent."""
        # A limit is one of episodes, and rollout.py plays all trials of a quest before the next one.
        negatives = self.settings.neg_quests * self.settings.neg_trials
        counts = {"neg": negatives, self.settings.eval_task: self.settings.eval_quests}
        player = ("--model", self.who.name(SELF, agent), *self._actions)
        trials = ("--trials", str(self.settings.neg_trials)) if task == "neg" else ()
        return self._rollout(task, tag, counts.get(task, self.settings.limit), *player, *trials, *options)

    def continuations(self, agent: Agent, script_name: str, tag: str, *options: str) -> Command:
        """Return the script that has the agent play on."""
        bounds = ("--rollouts", str(self.settings.trials), "--concurrency", "{batch}", "--tag", tag)
        player = ("--model", self.who.name(SELF, agent), *self._actions)
        return script(script_name, "--by", "replay", *player, *bounds, *options, may_miss=True)

    def players(self, agent: Agent) -> tuple[Service, ...]:
        """Return the server of the agent."""
        return (self.who.agent(agent),)

    def reads(self) -> tuple[Path, ...]:
        """Return nothing: an environment brings its quests with it."""
        return ()

    def _rollout(self, task: str, tag: str, count: int, *options: str) -> Command:
        kinds = ("--tasks-of", ",".join(self.settings.tasks_of)) if self.settings.tasks_of else ()
        bounds = ("--concurrency", "{batch}", "--limit", str(min(count, self.settings.limit)))
        where = ("--env", self.settings.env, "--task", task, "--tag", tag)
        return script("rollout", *where, *kinds, *bounds, *options, may_miss=True)
