"""Find the episodes that a step is about: the runs of a task, by the options of the run or by tag.

Comes in: a store and what was typed. Goes out: the tags that are meant. Nothing typed means all runs of the task, as
long as they have one agent and one evaluator, since scores of two evaluators cannot be compared.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import name_of, without_address
from sotopia_sdpo.play.sources import task_of_episode
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.run_names import find_run


UNKNOWN = "unknown"


class Wanted(NamedTuple):
    """What was typed; empty where nothing was."""

    models: tuple[str, ...] = ()
    partner: str = ""
    evaluator: str = ""
    tags: tuple[str, ...] = ()


class StoredRun(NamedTuple):
    """The episodes of one tag, by who played them."""

    tag: str
    task: str
    agent: str
    partner: str
    evaluator: str
    env: str | None = None
    """The environment, where it is no run of SOTOPIA."""

    def __str__(self) -> str:
        if self.env:
            return f"{self.agent} in {self.env}"
        return f"{self.agent} with {self.partner}, judged by {self.evaluator}"


def stored_runs(store: Store) -> list[StoredRun]:
    """Return the runs of a store, by one episode of every tag."""
    firsts = (next(iter(store.episodes(tag)), None) for tag in sorted(store.counts().episodes))
    return [run_of(first) for first in firsts if first is not None]


def run_of(episode: Episode) -> StoredRun:
    """Describe the run of an episode; models are unknown where it does not name three."""
    players = episode.players_from(episode.position)
    agent, partner = players or (UNKNOWN, UNKNOWN)
    evaluator = without_address(episode.models[0]) if players else UNKNOWN
    return StoredRun(episode.tag, task_of_episode(episode), agent, partner, evaluator, episode.env)


def choose_runs(store: Store, task: str, wanted: Wanted, mixed_agents: bool = False) -> list[StoredRun]:
    """Choose the runs that are meant.

    Args:
        store: the episodes.
        task: the task they were sampled for; runs named by tag may be of any.
        wanted: what was typed.
        mixed_agents: allow runs of several agents and evaluators, as experts for SFT.

    Raises:
        UserError: if there are none, or not of one agent and evaluator; the line lists what there is.
    """
    runs = stored_runs(store)
    if wanted.tags:
        by_tag = {run.tag: run for run in runs}
        meant = {typed: find_run(typed, by_tag) for typed in wanted.tags}
        if missing := [typed for typed, found in meant.items() if not found]:
            raise UserError(f"--tag {missing[0]}: {store.url} has no episodes with this tag; it has {_listed(by_tag)}")
        return [by_tag[tag] for tag in dict.fromkeys(tag for found in meant.values() for tag in found)]
    of_task = [run for run in runs if run.task == task]
    if not of_task:
        raise UserError(
            f"{store.url} has no episodes of task {task}; `sotopia benchmark --task {task} …` samples them, in an "
            f"environment `rollout.py --task {task} …`"
        )
    found = [run for run in of_task if _fits(run, wanted)]
    if not found:
        raise UserError(f"{store.url} has no such episodes of task {task}; it has {_listed(map(str, of_task))}")
    for what, names in (("agent", {run.agent for run in found}), ("evaluator", {run.evaluator for run in found})):
        if len(names) > 1 and not mixed_agents:
            option = "--models" if what == "agent" else "--evaluator-model"
            raise UserError(
                f"the episodes of task {task} are of {len(names)} {what}s: {_listed(names)}; choose one with {option}"
            )
    return found


def _fits(run: StoredRun, wanted: Wanted) -> bool:
    """Check a run against what was typed; a model may have moved to another address."""
    models = {without_address(name_of(model)) for model in wanted.models}
    partner, evaluator = (
        without_address(name_of(name)) if name else "" for name in (wanted.partner, wanted.evaluator)
    )
    return (
        (not models or run.agent in models)
        and (not partner or run.partner == partner)
        and (not evaluator or run.evaluator == evaluator)
    )


def _listed(names: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(sorted(names))) or "none"
