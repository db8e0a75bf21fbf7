"""A panel judges a run, people rate a part of it: `sotopia benchmark`, `evaluate` and `judges` on one database."""

import csv
import json
import random
from pathlib import Path
from statistics import fmean
from typing import Any

from running import Command, Server


def by_people(episode: dict[str, Any], position: int) -> float:
    """Return what people give for a goal: two points less than the panel, where there are as many."""
    return max(0.5, float(episode["rewards"][position][1]["goal"]) - 2)


def rate(episodes: list[dict[str, Any]], people: Path, count: int) -> None:
    """Have two people rate some episodes, half a point apart."""
    with people.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pk", "rater", "goal_1", "goal_2"])
        # By what they are of, since their keys are drawn anew with every run.
        episodes = sorted(episodes, key=lambda one: (one["environment"], one["agents"], one["agent_position"]))
        for episode in random.Random(0).sample(episodes, count):
            for rater, gap in (("ann", -0.25), ("bo", 0.25)):
                writer.writerow([episode["pk"], rater, *(by_people(episode, position) + gap for position in (0, 1))])


def test_a_panel_and_people(inside: Command, server: Server, tmp_path: Path) -> None:
    models = ["--models", server.model("alpha"), "--partner-model", server.model("beta"), "--demo", "--task", "all"]
    panel = ["--evaluator-model", ",".join(map(server.model, ("judge", "stern")))]
    ran = inside("benchmark", *models, *panel, "--judge-repeats", "2")
    assert ran.code == 0, ran.err
    assert "judged by mean(custom/judge,custom/stern)x2" in ran.out and "disagreement (SD)" in ran.out
    # The same panel in another order, without addresses: all is there.
    again = ["--evaluator-model", "custom/stern,custom/judge", "--judge-repeats", "2", "--only-show-performance"]
    asked = server.stats()["requests"]
    assert inside("benchmark", *models, *again).out == ran.out and server.stats()["requests"] == asked
    assert inside("db", "export", "--episodes", "all.jsonl").code == 0
    episodes = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert {len(episode["settings"]["panel"]) for episode in episodes} == {4}
    assert {episode["usage"]["evaluator"]["calls"] for episode in episodes} == {4}

    rate(episodes, tmp_path / "people.csv", 40)
    tag = episodes[0]["tag"]
    held = inside("judges", "--human", "people.csv", "--tag", tag)
    assert held.code == 0, held.err
    names = [line.split(" with people")[0] for line in held.out.splitlines() if " with people:" in line]
    assert names == ["people", "custom/judge", "custom/stern", tag.split("_")[3]]
    assert held.out == inside("judges", "--human", "people.csv", "--scores", "all.jsonl").out

    shown = inside("benchmark", *models, *again, "--calibrate", "people.csv")
    (goal,) = (line.split() for line in shown.out.split("corrected by people")[1].splitlines() if "  goal" in line)
    truth = fmean(by_people(episode, episode["agent_position"]) for episode in episodes)
    # The draw of who is rated is the same in every run; one of a thousand others misses the truth by more than 1.
    assert goal[-1] == "40" and abs(float(goal[4]) - truth) < 1 < float(goal[1]) - truth
    judged = inside("evaluate", "--tag", tag, "--evaluator-model", server.model("judge"), "--calibrate", "people.csv")
    assert judged.code == 0 and "corrected by people" in judged.out and "disagreement" not in judged.out


def test_what_cannot_be_read_is_one_line(sotopia: Command, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("pk,rater,goal_1\ne,ann,12\n")
    for arguments in (
        ["judges", "--human", "people.csv"],
        ["evaluate", "--tag", "t", "--evaluator-model", "gpt-4o", "--calibrate", "people.csv"],
        ["benchmark", "--demo", "--calibrate", "people.csv"],
    ):
        found = sotopia(*arguments)
        assert found.code == 2 and found.out == "", arguments
        assert found.err == (
            "error: people.csv line 2: goal_1 is '12', expected a number from 0 to 10; correct it or leave it empty\n"
        )
