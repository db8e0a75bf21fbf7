"""How a run goes on: a step is done once, again when what it depends on has changed, and servers end with the script."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from running import environment

from sotopia_sdpo.make import digests, processes, runner, servers
from sotopia_sdpo.make.digests import Digests
from sotopia_sdpo.make.runner import Runner
from sotopia_sdpo.make.servers import Server, ServerEnded, ServerNotReady
from sotopia_sdpo.make.steps import Service, Step


SCRIPT = [sys.executable, str(Path(__file__).parents[1] / "steps_script.py")]
ALL = ["one", "two", "never if bad", "a", "b", "three"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder, with what the server and the steps read."""
    (tmp_path / "config.yaml").write_text("x: 1\n")
    (tmp_path / "health").write_text("")
    (tmp_path / "stuck.sh").write_text('#!/bin/sh\necho $$ >"$SDPO_HOME/step"\nsleep 600\n')
    (tmp_path / "stuck.sh").chmod(0o755)
    return tmp_path


def settings_of(folder: Path, **settings: str) -> dict[str, str]:
    return environment(**{"FIRST": "1", "SECOND": "2", "THIRD": "3", "RUN": str(folder), **settings})


@pytest.fixture
def run(folder: Path):
    """Run the script with settings."""

    def once(**settings: str) -> subprocess.CompletedProcess[str]:
        (folder / "ran").write_text("")
        return subprocess.run(SCRIPT, env=settings_of(folder, **settings), capture_output=True, text=True, timeout=60)

    return once


def ran(folder: Path) -> list[str]:
    return [line.split("-")[0] for line in (folder / "ran").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and more than an entry that nobody has asked for."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def members(session: int) -> list[int]:
    """List the living processes of a session."""
    found = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True).stdout
    return [pid for pid in map(int, found.split()) if is_alive(pid)]


def test_steps_are_done_once_and_again_after_a_change(run, folder: Path) -> None:
    first = run()
    assert first.returncode == 0, first.stderr
    assert ran(folder) == ALL
    assert "kept 1 of 9 things" in first.stdout.splitlines()[0]
    again = run()
    assert ran(folder) == [] and again.stdout.count("done before") == 5
    later = run(THIRD="0")
    assert ran(folder) == ["three"] and later.stdout.count("done before") == 4
    run(FIRST="5", THIRD="0")
    assert ran(folder) == ALL


def test_what_is_done_aside_changes_no_later_step(run, folder: Path) -> None:
    run()
    (folder / "done" / "beside.b").unlink()
    run()
    assert ran(folder) == ["b"]


def test_a_file_that_was_edited(run, folder: Path) -> None:
    """The steps that read it, and those after them; its time alone changes nothing."""
    run()
    os.utime(folder / "config.yaml", (1, 1))
    run()
    assert ran(folder) == []
    (folder / "config.yaml").write_text("x: 2\n")
    run()
    assert ran(folder) == ALL[1:]
    (folder / "config.yaml").unlink()
    run()
    assert ran(folder) == ALL[1:]


def test_an_output_that_is_gone(run, folder: Path) -> None:
    """It is made again, and what reads it is done before if it is what it was."""
    run()
    (folder / "made.json").unlink()
    run()
    assert ran(folder) == ["one"] and (folder / "made.json").read_text() == "1\n"
    (folder / "model" / "config.json").unlink()
    run()
    assert ran(folder) == ["two", "never if bad"]


def test_an_output_that_was_edited_is_kept_and_read_again(run, folder: Path) -> None:
    run()
    (folder / "made.json").write_text("mine\n")
    run()
    assert ran(folder) == ["three"] and (folder / "made.json").read_text() == "mine\n"
    (folder / "model" / "config.json").write_text("mine\n")
    (folder / "model" / "training.log").write_text("not the model\n")
    run()
    assert ran(folder) == ["a", "b"]


def test_checkpoints_are_gone_on_from_only_by_the_step_that_made_them(run, folder: Path) -> None:
    """A training finds them in its output folder, whatever settings or data they are of, and goes on from the last."""
    run()
    checkpoint = folder / "model" / "checkpoint-7" / "trainer_state.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    (folder / "model" / "config.json").unlink()
    run()
    assert ran(folder) == ["two", "never if bad"] and checkpoint.exists(), "as if it had been killed before its end"
    assert run(SECOND="bad").returncode == 1 and not checkpoint.parent.exists()
    (folder / "model" / "old").mkdir()
    (folder / "model" / "link").symlink_to(folder / "health")
    run(SECOND="3")
    assert [path.name for path in (folder / "model").iterdir()] == ["config.json"] and (folder / "health").exists()


def test_a_database_that_is_gone_or_samples_that_are(run, folder: Path) -> None:
    """What is made of new episodes is made again, though they are under the tag of the old ones."""
    run(EPISODES="1")
    assert ran(folder) == [*ALL, "sample", "last"]
    tag = json.loads((folder / "done" / "sample").read_text())["key"]
    run(EPISODES="1")
    assert ran(folder) == []
    (folder / "sotopia.db").unlink()
    run(EPISODES="1")
    assert ran(folder) == ["sample", "last"]
    assert json.loads((folder / "done" / "sample").read_text())["key"] == tag


def test_a_run_folder_that_has_moved(run, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run()
    moved = folder.rename(tmp_path_factory.mktemp("moved") / "run")
    (moved / "ran").write_text("")
    done = subprocess.run(SCRIPT, env=settings_of(moved), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and ran(moved) == []


def test_a_run_folder_of_the_shell_version(run, folder: Path) -> None:
    """What it noted as done is done again, and it says so."""
    (folder / "done").mkdir()
    (folder / "done" / "one").write_text("1234567890")
    first = run()
    assert first.returncode == 0 and ran(folder) == ALL
    assert "made by an earlier version; every step is done again" in first.stdout
    assert "earlier version" not in run().stdout


def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "LARGE_BYTES", 4)
    large, kept = tmp_path / "model.safetensors", tmp_path / "kept"
    large.write_text("before")
    before = Digests(kept).of([large])
    os.utime(large, (1, 1))
    assert Digests(kept).of([large]) == before
    large.write_text("after.")
    os.utime(large, (1, 1))
    assert Digests(kept).of([large]) == before, "size and time are as before, so it is not read"
    os.utime(large, (2, 2))
    assert Digests(kept).of([large]) != before


def test_a_step_that_fails_ends_it_and_is_done_again(run, folder: Path) -> None:
    """The step ends at its first failing command, and nothing after it is run."""
    failed = run(SECOND="bad")
    assert failed.returncode == 1 and "failed, exit code 1" in failed.stdout and "logs/two.log" in failed.stderr
    assert ran(folder) == ["one", "two"]
    assert run().returncode == 0 and ran(folder) == ["two", "never if bad", "a", "b", "three"]
    assert run(THIRD="4").returncode == 4


def test_a_step_that_misses_too_much_ends_it_and_is_done_again(run, folder: Path) -> None:
    """6 of 10 are more than half of them: nothing goes on from there, until more is allowed or fewer fail."""
    most = '[6, 10, "episodes", "no answer"]'
    ended = run(MISSED=most)
    assert ended.returncode == 3 and ended.stdout.splitlines()[-1].split()[-1] == "failed"
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: three: 6 of 10 episodes failed (most: no answer), more than MAY_MISS=0.5 of them;")
    assert "the same command tries them again; MAY_MISS=1 goes on without them" in line and "three.log" in line
    assert run(MISSED=most).returncode == 3 and ran(folder) == ["three"]
    assert run(MISSED=most, MAY_MISS="0.6").returncode == 0 and ran(folder) == ["three"]
    assert run(MISSED=most).returncode == 0 and ran(folder) == [], "what is done is done"
    assert run(MISSED='[5, 10, "episodes", "no answer"]').returncode == 0 and ran(folder) == ["three"]
    # 1 of 10 is few, but the others were not tried.
    stopped = '[1, 10, "episodes", "a server stopped answering", 0, true]'
    ended = run(MISSED=stopped)
    assert ended.returncode == 3 and "1 of 10 episodes failed (most: a server stopped answering), and" in ended.stderr
    assert run(MISSED=stopped, MAY_MISS="1").returncode == 0
    # An account of an earlier command is not that of this one.
    assert run(MISSED=most).returncode == 3 and run(THIRD="3").returncode == 0


def test_an_agent_that_may_fail_as_often_as_it_likes(run, folder: Path) -> None:
    """Its judge may not, and where a server was gone, nothing is known of the candidate."""
    assert run(MISSED='[10, 10, "episodes", "no action"]', MAY_MISS_ALL="1").returncode == 0
    assert ran(folder)[-1] == "three"
    for unscored in (0, 3):
        stopped = f'[10, 10, "episodes", "a server stopped answering", {unscored}, true]'
        ended = run(MISSED=stopped, MAY_MISS_ALL="1", THIRD="3")
        assert ended.returncode == 3 and "three: 10 of 10 episodes failed (most: a server stopped" in ended.stderr
    ended = run(MISSED='[10, 10, "episodes", "no verdict", 6]', MAY_MISS_ALL="1", THIRD="3")
    assert ended.returncode == 3 and "three: 6 of 10 episodes failed (most: no verdict), more than" in ended.stderr


def test_servers_end_with_the_script(run, folder: Path) -> None:
    for settings in ({}, {"SECOND": "bad"}):
        run(**settings)
        assert not is_alive(int((folder / "pid").read_text()))


def test_a_server_that_does_not_start(run, folder: Path) -> None:
    failed = run(SERVER="none")
    assert failed.returncode == 1 and "a server ended" in failed.stdout and "logs/server.log" in failed.stderr
    assert ran(folder) == ["one"]


def test_a_port_that_is_taken_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is tried; the process that took it is not mistaken for the server."""
    argv = [sys.executable, "-um", "http.server", "--bind", "127.0.0.1", "-d", str(folder)]
    service = Service("web", "web", lambda port: (*argv, str(port)))
    free = servers.free_ports()[0]
    monkeypatch.chdir(folder)
    with Server([*argv, "0"], log=folder / "log", out=folder / "out", ready=(folder / "out").read_text) as first:
        taken = psutil.Process(first.pid).net_connections()[0].laddr.port
        ports = iter([[taken], [free]])
        monkeypatch.setattr(runner, "free_ports", lambda count: next(ports))
        with Runner(folder) as started:
            started.step(Step("one", "the first thing", (), services=(service,)))
            assert started.values["web"] == f"http://127.0.0.1:{free}/v1/"
    assert servers.is_free(free) and servers.is_free(taken)


def test_a_server_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what it has started, where that ignores being asked; and one that ends early is no server."""
    monkeypatch.setattr(processes, "END_S", 1.0)
    script = "trap '' TERM; sleep 600 & echo $! >pid; wait"
    with Server(
        ["sh", "-c", f"cd {tmp_path}; {script}"], log=tmp_path / "log", ready=(tmp_path / "pid").exists
    ) as server:
        started = server.pid
        assert len(members(started)) == 2
    assert not members(started)
    with (
        pytest.raises(ServerEnded, match="exit code 7"),
        Server(["sh", "-c", "exit 7"], log=tmp_path / "log", ready=bool),
    ):
        pass


def test_a_server_that_is_never_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the end of its log, in one line; nothing of it is left."""
    monkeypatch.setattr(servers, "READY_S", 1.0)
    argv = "sh", "-c", f"echo $$ >{tmp_path}/pid; echo loading >&2; sleep 600"
    step = Step("one", "the first thing", (), services=(Service("web", "web", lambda _: argv),))
    with (
        Runner(tmp_path / "run") as started,
        pytest.raises(ServerNotReady, match="not ready after 1 s; its log ends with 'loading'; all of it: .*/web.log"),
    ):
        started.step(step)
    assert capsys.readouterr().out.split()[-1] == "failed"
    assert not members(int((tmp_path / "pid").read_text()))


@pytest.fixture
def stuck(folder: Path):
    """Start the script, with a second step that does not end."""
    env = settings_of(folder, SECOND="stuck")
    with subprocess.Popen(SCRIPT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not (folder / "step").exists() or not (folder / "step").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process


def sessions(folder: Path) -> list[int]:
    """List the sessions of the server and of the step."""
    return [os.getsid(int((folder / name).read_text())) for name in ("pid", "step")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_an_interrupted_script_leaves_nothing(stuck, folder: Path, number: int, code: int) -> None:
    started = sessions(folder)
    stuck.send_signal(number)
    assert stuck.wait(30) == code
    assert not any(map(members, started))


def test_a_server_that_ends_fails_the_step(stuck, folder: Path) -> None:
    """The step is not left waiting for it."""
    started = sessions(folder)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert stuck.wait(30) == 1
    assert not any(map(members, started))


def test_what_a_killed_script_left_is_ended_by_the_next(stuck, run, folder: Path) -> None:
    busy = run()
    assert busy.returncode == 2 and f"process {stuck.pid} is at work here" in busy.stderr
    started = sessions(folder)
    stuck.kill()
    stuck.wait(30)
    assert all(map(members, started))
    os.kill(started[1], signal.SIGKILL)  # the step's shell, as `pkill -9 -f` would, but not what it has started
    assert run().returncode == 0
    assert not any(map(members, started))
