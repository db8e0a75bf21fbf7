"""A store with a few scenarios, characters and combos, for tests of what is planned and run."""

from pathlib import Path
from typing import Any

from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.play.dialogue import Template
from sotopia_sdpo.run.plan import Run
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.tasks import TASKS


PEOPLE = ("p0", "p1", "p2", "p3")
SPLITS = {"SFT-round-1": ["e0", "e1"], "sotopia_env": ["e1", "e2"], "sotopia_hard_env": ["e2"]}
VERDICT = {"goal": 7.0, "relationship": 2.0, "overall_score": 1.0}


def small_store(folder: Path, scenarios: int = 3, combos: int = 4) -> Store:
    """Make a store: scenarios e0, e1, …, each with this many combos."""
    store = open_store(f"sqlite:///{folder}/small.db")
    store.put_entries(("agents", {"pk": pk, "first_name": pk, "last_name": "Lee"}) for pk in PEOPLE)
    envs = [f"e{i}" for i in range(scenarios)]
    store.put_entries(("environments", {"pk": e, "scenario": "s", "agent_goals": ["a", "b"]}) for e in envs)
    pairs = [(a, b) for a in PEOPLE for b in PEOPLE if a < b][:combos]
    rows = [{"pk": f"{e}-{i}", "env_id": e, "agent_ids": list(p)} for e in envs for i, p in enumerate(pairs)]
    store.put_entries(("combos", row) for row in rows)
    return store


def make_run(task: str = "all", model: str = "m", partner: str = "m", **changes: Any) -> Run:
    """Make a run on a server that need not be there."""
    models = [parse_model(f"custom/{name}@http://h/v1") for name in (model, partner, "judge")]
    chosen = TASKS[task]
    settings = {"target_temperature": chosen.target_temperature, "trials": chosen.trials, **changes}
    return Run(*models, chosen, Template("{{background}}", "t.txt"), **settings)


def finished(item: Any, status: str = "scored", goal: float = 7.0, **changes: Any) -> Episode:
    """Make the episode of a work item, as if it had been run."""
    verdict = (1.0, {**VERDICT, "goal": goal})
    return Episode(
        environment=item.combo.environment,
        agents=list(item.combo.agents),
        tag=item.key.tag,
        models=["custom/judge@http://h/v1", *(item.side(position)[0].name for position in (0, 1))],
        messages=[],
        status=status,
        failure="" if status == "scored" else "because",
        rewards=[verdict, verdict] if status == "scored" else [],
        source_episode=item.source_episode,
        agent_position=item.agent_position,
        location=item.location,
        trial=item.key.trial,
        settings=item.run.settings(),
        **changes,
    )
