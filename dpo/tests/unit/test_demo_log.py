"""The shipped log of an agent with tools: what tools/demo_logs.py writes, and the pairs that come out of it."""

import json
import sys
from pathlib import Path
from typing import Any

from conftest import DPO, ROOT
from running import Command


sys.path.insert(0, str(ROOT / "tools"))

import demo_logs  # noqa: E402


LOG, TOOLS = DPO / "demo_log.json", DPO / "demo_tools.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_the_shipped_files_are_what_the_tool_writes():
    assert read(LOG) == demo_logs.make_log()
    assert read(TOOLS) == demo_logs.describe_tools()


def test_every_call_is_of_a_described_tool_and_has_its_result():
    names = {tool["function"]["name"] for tool in read(TOOLS)}
    for run in read(LOG):
        calls = [call for turn in run["traj"] for call in turn.get("tool_calls", [])]
        assert {call["function"]["name"] for call in calls} <= names
        results = [turn["tool_call_id"] for turn in run["traj"] if turn["role"] == "tool"]
        assert results == [call["id"] for call in calls]


def test_no_trial_is_given_away_by_its_length():
    """A rule that takes the longer dialogue for the better one is right for some tasks and wrong for others."""
    good, bad = (
        {run["task_id"]: len(run["traj"]) for run in read(LOG) if run["reward"] == reward} for reward in (1.0, 0.0)
    )
    longer = sum(good[task] > bad[task] for task in good)
    assert 0 < longer < len(good)


def test_its_pairs(inside: Command):
    """24 tasks with 2 good and 2 bad trials: 4 pairs a task, of which every second has one wording."""
    options = [str(LOG), "--tools", str(TOOLS), "--pairs", "sdpo"]
    assert "kept 48 of 96 pairs" in inside("from_logs", *options).out
    by_state = inside("from_logs", *options, "--match", "state").out
    assert "kept 96 of 96 pairs" in by_state and "48 of the pairs share calls and results" in by_state
