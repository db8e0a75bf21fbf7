"""People who rate sessions, and judges that are planted, so that their faults are known."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


FAMILIES = ("llama-3-8b", "qwen2-7b")


class Truth(NamedTuple):
    """What one side of a session is worth, and what a judge may lean to."""

    goal: float
    turns: int
    model: str
    draw: random.Random

    def noisy(self, spread: float, extra: float = 0.0) -> int:
        """Return it as people or judges give it: with noise, a whole number inside the range."""
        return min(10, max(0, round(self.goal + extra + self.draw.gauss(0, spread))))


def world(seed: int = 0, sessions: int = 150) -> dict[str, tuple[Truth, Truth]]:
    """Make sessions: good ones are no longer than bad ones."""
    draw = random.Random(seed)
    found = {}
    for number in range(sessions):
        turns, models = draw.randint(4, 20), draw.choice([FAMILIES, FAMILIES[::-1]])
        goals = [min(8.5, max(1.5, draw.gauss(5, 2))) for _ in models]
        found[f"s{number}"] = tuple(Truth(goal, turns, model, draw) for goal, model in zip(goals, models, strict=True))
    return found  # type: ignore[return-value]


def write_people(path: Path, sessions: dict[str, tuple[Truth, Truth]], spread: float = 1.2) -> Path:
    """Have two people rate every session."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rater", "pk", "model_1", "model_2", "data", "goal_1", "goal_2"])
        for pk, sides in sessions.items():
            data = json.dumps({"parsed_conversation": [{"dialogue": "words"}] * sides[0].turns})
            for rater in ("r0", "r1"):
                models = [side.model for side in sides]
                writer.writerow([rater, pk, *models, data, *(side.noisy(spread) for side in sides)])
    return path


def write_judge(path: Path, sessions: dict[str, tuple[Truth, Truth]], score: Callable[[Truth], float]) -> Path:
    """Write a judge's scores, in the form of the published ones."""
    by_session = {
        pk: {
            "env_pk": "e",
            **{f"agent{n}": {"goal": score(side), "overall_score": 1.0} for n, side in enumerate(sides, 1)},
        }
        for pk, sides in sessions.items()
    }
    path.write_text(json.dumps(by_session))
    return path
