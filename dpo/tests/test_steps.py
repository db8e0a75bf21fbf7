"""How a run goes on: a step is done once, again when what it depends on has changed, and servers end with the script."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest


STEPS = Path(__file__).resolve().parents[1] / "steps.sh"
SCRIPT = f"""
set -euo pipefail
. "{STEPS}"
claim_run
first() {{ echo "kept $FIRST of 9 things"; }}
do_one() {{ first; echo one >>"$RUN/ran"; }}
do_two() {{ echo two >>"$RUN/ran"; test "$SECOND" != bad; echo "never if bad" >>"$RUN/ran"; }}
do_beside() {{ echo "$1" >>"$RUN/ran"; }}
do_three() {{ echo "three-$(tag_of one)" >>"$RUN/ran"; allow_failures sh -c "exit $THIRD"; }}
needs_server() {{
    start_server "$RUN/logs/server.log" 'listening on ' sh -c 'echo listening on $$; exec sleep 600'
    echo "$server_url" >"$RUN/pid"
}}
step one 'the first thing'
step two 'the second thing' needs_server
for letter in a b; do aside "beside.$letter" 'a thing beside'; done
step three 'the third thing'
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run the script with settings."""

    def once(**settings: str) -> subprocess.CompletedProcess[str]:
        values = {"FIRST": "1", "SECOND": "2", "THIRD": "3", "RUN": str(tmp_path), **settings}
        (tmp_path / "ran").write_text("")
        env = {**os.environ, **values}
        return subprocess.run(["bash", "-c", SCRIPT], env=env, capture_output=True, text=True, timeout=60)

    return once


def ran(folder: Path) -> list[str]:
    return [line.split("-")[0] for line in (folder / "ran").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and more than an entry that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def members(group: int) -> list[int]:
    """List the living processes of a group."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True).stdout
    return [pid for pid in map(int, found.split()) if is_alive(pid)]


def test_steps_are_done_once_and_again_after_a_change(run, tmp_path: Path) -> None:
    first = run()
    assert first.returncode == 0, first.stderr
    assert ran(tmp_path) == ["one", "two", "never if bad", "a", "b", "three"]
    assert "kept 1 of 9 things" in first.stdout.splitlines()[0]
    again = run()
    assert ran(tmp_path) == [] and again.stdout.count("done before") == 5
    later = run(THIRD="0")
    assert ran(tmp_path) == ["three"] and later.stdout.count("done before") == 4
    run(FIRST="5", THIRD="0")
    assert ran(tmp_path) == ["one", "two", "never if bad", "a", "b", "three"]


def test_what_is_done_aside_changes_no_later_step(run, tmp_path: Path) -> None:
    run()
    (tmp_path / "done" / "beside.b").unlink()
    run()
    assert ran(tmp_path) == ["b"]


def test_a_step_that_fails_ends_it_and_is_done_again(run, tmp_path: Path) -> None:
    """The step ends at its first failing command, and nothing after it is run."""
    failed = run(SECOND="bad")
    assert failed.returncode == 1 and "failed, exit code 1" in failed.stdout and "logs/two.log" in failed.stderr
    assert ran(tmp_path) == ["one", "two"]
    assert run().returncode == 0 and ran(tmp_path) == ["two", "never if bad", "a", "b", "three"]
    assert run(THIRD="4").returncode == 4


def test_servers_end_with_the_script(run, tmp_path: Path) -> None:
    for settings in ({}, {"SECOND": "bad"}):
        run(**settings)
        assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.fixture
def stuck(tmp_path: Path):
    """Start the script, with a second step that does not end."""
    script = SCRIPT.replace('test "$SECOND" != bad', 'echo $BASHPID >"$RUN/step"; sleep 600')
    env = {**os.environ, "FIRST": "1", "SECOND": "2", "THIRD": "0", "RUN": str(tmp_path)}
    with subprocess.Popen(["bash", "-c", script], env=env, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "step").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process


def groups(folder: Path) -> list[int]:
    """Give the process groups of the server and of the step."""
    return [os.getpgid(int((folder / name).read_text())) for name in ("pid", "step")]


def test_an_interrupted_script_leaves_nothing(stuck, tmp_path: Path) -> None:
    started = groups(tmp_path)
    stuck.send_signal(signal.SIGTERM)
    assert stuck.wait(30) == 143
    assert not any(map(members, started))


def test_what_a_killed_script_left_is_ended_by_the_next(stuck, run, tmp_path: Path) -> None:
    busy = run()
    assert busy.returncode == 2 and f"process {stuck.pid} is at work here" in busy.stderr
    started = groups(tmp_path)
    stuck.kill()
    stuck.wait(30)
    assert all(map(members, started))
    os.kill(started[1], signal.SIGKILL)  # the step's shell, as `pkill -9 -f` would, but not what it has started
    assert run().returncode == 0
    assert not any(map(members, started))
