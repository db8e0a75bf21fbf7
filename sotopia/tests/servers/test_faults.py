"""Processes and servers that go away in the middle of the work, in the short form of `benchmarks/faults`."""

import subprocess
import sys
from pathlib import Path

import pytest
from running import environment, redis_at


FAULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "faults"


SHORT = ("workers-killed", "redis-killed", "redis-emptied", "settings-mixed", "annotators-killed", "connections-cut")


@pytest.mark.parametrize("fault", SHORT)
def test_nothing_is_lost_doubled_or_wrong(fault: str, tmp_path: Path) -> None:
    """30 episodes, questions or cuts, and three processes; Redis is away for 3 s."""
    redis_at(tmp_path, 0)  # skips where there is none
    size = ["--episodes", "30", "--processes", "3", "--gone", "3"]
    command = [sys.executable, str(FAULTS), "--only", fault, *size]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
