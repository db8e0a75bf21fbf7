"""Arms side by side: means and paired gains that can be checked by hand, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import tiny_run
from running import Command

from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.documents import to_entry


GOALS = {"sft": {"e1": 2, "e2": 4, "e3": 6}, "sdpo": {"e1": 5, "e2": 6, "e3": 10}, "other": {"e9": 1}}
"""Of agent 0, by tag and scenario; agent 1 is the partner."""


@pytest.fixture
def arms(home: Path) -> Path:
    """A database with three runs."""
    episodes = [
        tiny_run.episode(
            f"{tag}-{env}", "all", env, [], [(goal, 1), (9, 3)], tag=tag, agent_position=0, models=["j", tag, "p"]
        )
        for tag, goals in GOALS.items()
        for env, goal in goals.items()
    ]
    with open_store(f"sqlite:///{home / 'sotopia.db'}") as store:
        store.put_entries(map(to_entry, episodes))
    return home


def test_means_and_paired_gains(arms: Path, inside: Command) -> None:
    """sft 4, sdpo 7; the gains 3, 2, 4 have mean 3 and standard error 1/sqrt(3), times t(0.975, 2) = 4.303: 2.48."""
    done = inside("results", "--arm", "sft=sft", "--arm", "sdpo=sdpo", "--output", "results.json")
    assert done.code == 0, done.err
    found = json.loads(Path("results.json").read_text())
    assert found["sft"]["goal"]["mean"] == 4 and found["sdpo"]["goal"]["mean"] == 7 and "gain" not in found["sft"]
    gain = found["sdpo"]["gain"]["goal"]
    assert gain["mean"] == 3 and gain["low"] == pytest.approx(3 - 2.484, abs=1e-3)
    assert found["sdpo"]["gain"]["relationship"]["mean"] == 0
    assert "+3.00  [0.52, 5.48]" in done.out and done.out.splitlines()[1].startswith("sft")


def test_tags_of_an_arm_are_pooled(arms: Path, inside: Command) -> None:
    assert inside("results", "--arm", "both=sft,sdpo", "--output", "results.json").code == 0
    found = json.loads(Path("results.json").read_text())["both"]
    assert found["goal_by_run"] == [4, 7]
    both = found["goal"]
    assert both["mean"] == 5.5 and both["episodes"] == 6 and both["scenarios"] == 3


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["sft"], "--arm sft: expected NAME=TAG"),
        (["sft=sft", "sft=sdpo"], "--arm sft=sdpo: expected NAME=TAG.*with a name of its own"),
        (["sft=none"], "--arm sft=none: .* has no scored episode of these tags"),
        (["sft=sft", "x=other"], "--arm x=other: none of its episodes is on a combo of sft"),
    ],
)
def test_what_cannot_be_compared(arms: Path, inside: Command, arguments: list[str], fault: str) -> None:
    found = inside("results", *(word for text in arguments for word in ("--arm", text)))
    assert found.code == 2 and found.err.count("\n") == 1
    assert re.search(fault, found.err), found.err
