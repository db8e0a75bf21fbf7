"""Branches of a run at the same time: as one after the other would have it, and nothing is left where one fails."""

import json
import os
import signal
import subprocess
import threading
import time
from functools import partial
from operator import methodcaller
from pathlib import Path

import pytest
from test_steps import SCRIPT, folder, is_alive, ran, settings_of  # noqa: F401 (a fixture)

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.make.at_once import Gate, Stopped, run_at_once
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.make.steps import Command, Service, Step


LONGEST_S = 60


def waiting_for(own: str, other: str) -> Command:
    """Return what ends only if another one runs at the same time."""
    text = (
        'touch "$SDPO_HOME/$0"; while [ ! -e "$SDPO_HOME/$1" ]; do sleep 0.05; done; echo "$2" >"$SDPO_HOME/$0.json"'
    )
    return Command(("timeout", str(LONGEST_S), "sh", "-ec", text, own, other, "{web}"))


def steps_of(run: Path, own: str, other: str) -> list[Step]:
    """Return two steps with a server that is not the other's."""
    argv = ["sh", "-c", f'exec python3 -um http.server --bind 127.0.0.1 -d "{run}" $0']
    web = Service("web", "web", lambda port: (*argv, str(port)), words=(own,))
    made = run / f"{own}.json"
    first = Step(f"first.{own}", f"first of {own}", (waiting_for(own, other),), writes=(made,), services=(web,))
    return [first, Step(f"second.{own}", f"second of {own}", (), reads=(made,))]


def test_branches_run_at_once_as_many_as_may() -> None:
    met, at_work, most, lock = threading.Barrier(2, timeout=LONGEST_S), 0, 0, threading.Lock()

    def branch(number: int, gate: Gate) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        met.wait()
        with lock:
            at_work -= 1
        gate.check()
        return number

    assert run_at_once([partial(branch, number) for number in range(6)], 2) == list(range(6)) and most == 2


def test_the_first_that_fails_stops_the_others() -> None:
    """Those at work leave, those that wait do not begin, and what is raised is what failed."""
    begun, left = threading.Event(), []

    def fails(gate: Gate) -> None:
        assert begun.wait(LONGEST_S)
        raise UserError("no disk")

    def goes_on(gate: Gate) -> None:
        begun.set()
        try:
            while True:
                gate.check()
                time.sleep(0.01)
        except Stopped:
            left.append(True)
            raise

    def never(gate: Gate) -> None:
        left.append(False)

    with pytest.raises(UserError, match="no disk"):
        run_at_once([fails, goes_on, never], 2)
    assert left == [True]


def test_a_run_is_as_one_after_the_other_would_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys and files are the same, lines are whole, and each branch has a server and logs of its own."""
    (tmp_path / "health").write_text("")
    both = [steps_of(tmp_path, "a", "b"), steps_of(tmp_path, "b", "a")]
    with Runner(tmp_path) as runner:
        runner.branches([methodcaller("steps", steps) for steps in both], 2)
        assert not runner.servers and runner.chain == "" and runner.keys.keys() >= {"first.a", "second.b"}
    lines = sorted(line.split(maxsplit=1)[1].split("  ")[0] for line in capsys.readouterr().out.splitlines())
    assert lines == ["first of a", "first of b", "second of a", "second of b"]
    assert (tmp_path / "a.json").read_text() != (tmp_path / "b.json").read_text(), "the addresses of two servers"
    assert (tmp_path / "logs" / "web.1.log").exists() and (tmp_path / "logs" / "web.2.log").exists()
    with Runner(tmp_path) as runner:
        for steps in both:
            runner.branches([methodcaller("steps", steps)])
    assert capsys.readouterr().out.count("done before") == 4


def test_a_step_that_fails_stops_those_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails = 'while [ ! -e "$SDPO_HOME/pid" ]; do sleep 0.05; done; exit 7'
    bad = Step("bad", "the bad one", (Command(("sh", "-ec", fails)),))
    long = Step("long", "the long one", (Command(("sh", "-ec", 'echo $$ >"$SDPO_HOME/pid"; exec sleep 600')),))
    with Runner(tmp_path) as runner, pytest.raises(SystemExit) as ended:
        runner.branches([methodcaller("step", step) for step in (long, bad)], 2)
    assert ended.value.code == 7 and not is_alive(int((tmp_path / "pid").read_text()))
    shown = capsys.readouterr()
    assert shown.out.split()[1:] == ["the", "bad", "one", "failed,", "exit", "code", "7"]
    assert "key" not in json.loads((tmp_path / "done" / "long").read_text())


def test_a_signal_stops_all(folder: Path) -> None:  # noqa: F811
    env = settings_of(folder, BESIDE="stuck", AT_ONCE="2")
    with subprocess.Popen(SCRIPT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        pids = [folder / f"pid.{letter}" for letter in "ab"]
        deadline = time.monotonic() + LONGEST_S
        while not all(pid.exists() and pid.read_text() for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(LONGEST_S) == 143
    assert not any(is_alive(int(pid.read_text())) for pid in pids)
    done = subprocess.run(SCRIPT, env=settings_of(folder, AT_ONCE="2"), capture_output=True, text=True, check=True)
    assert sorted(ran(folder)[-3:-1]) == ["a", "b"] and done.stdout.count("done before") == 2
