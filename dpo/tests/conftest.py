"""Fixtures of the scripts as processes; all state goes to tmp_path.

Not covered here: real providers and their prices, and what a real model answers.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.documents import to_entry


DPO = Path(__file__).resolve().parents[1]
ROOT = DPO.parent
# A loaded machine is slow, not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
sys.path[:0] = [str(DPO), str(DPO / "tests"), str(ROOT / "sotopia" / "tests" / "process")]
sys.path.append(str(ROOT / "sotopia" / "tests" / "unit"))

import tiny_run  # noqa: E402
from running import CLEARED, TIMEOUT_S, Command, Result, Server, environment, redis_at, serving  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Make what the tests start interruptible, also where the tests are a shell's background job, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data folder of this test."""
    return tmp_path / "home"


def command_of(name: str, *arguments: str) -> list[str]:
    """Write the command line of a script, or of `sotopia`."""
    start = ["-m", "sotopia_sdpo"] if name == "sotopia" else [str(DPO / f"{name}.py")]
    return [sys.executable, *start, *arguments]


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Command:
    """Run a script, or `sotopia`, to its end."""

    def run_one(name: str, *arguments: str, **extra: str) -> Result:
        env = environment(SDPO_HOME=str(home), **extra)
        done = subprocess.run(
            command_of(name, *arguments), capture_output=True, text=True, env=env, cwd=tmp_path, timeout=TIMEOUT_S
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run_one


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start a script and leave it running."""

    def start_one(name: str, *arguments: str) -> "subprocess.Popen[str]":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = environment(SDPO_HOME=str(home))
        return subprocess.Popen(command_of(name, *arguments), env=env, cwd=tmp_path, **pipes)

    return start_one


@pytest.fixture
def inside(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a script, or `sotopia`, in this process, which has to import its parts only once; otherwise the same."""
    from sotopia_sdpo.cli import app
    from sotopia_sdpo.pairs.options import app_of

    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SDPO_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def run_one(name: str, *arguments: str) -> Result:
        capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        command = app if name == "sotopia" else app_of(import_module(name).main)
        code = command(list(arguments), standalone_mode=False)
        signal.signal(signal.SIGTERM, before)
        return Result(code or 0, *capsys.readouterr())

    return run_one


@pytest.fixture
def tiny(home: Path) -> Path:
    """A data folder whose database holds the dozen episodes of tiny_run."""
    with open_store(f"sqlite:///{home / 'sotopia.db'}") as store:
        store.put_entries(map(to_entry, tiny_run.episodes()))
    return home


@pytest.fixture
def located(tiny: Path, inside: Command) -> Path:
    """The same with negative_data.json, and negative_data_error.json for three of its records."""
    assert inside("data_filtering_negative").code == 0
    places = {("N1", 0): 3, ("N2", 1): 1, ("N3", 1): 3}
    rows = [
        {**row, "location": places[row["episode"], row["agent_position"]], "reason": "here"}
        for row in json.loads((tiny / "negative_data.json").read_text())
        if (row["episode"], row["agent_position"]) in places
    ]
    (tiny / "negative_data_error.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    return tiny


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The scripted server, of a module of tests."""
    with serving() as found:
        yield found


@pytest.fixture(params=["sqlite", "redis"])
def db(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[str]:
    """A database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{home}/sotopia.db"
        return
    (port,) = free_ports()
    with redis_at(tmp_path, port):
        yield f"redis://127.0.0.1:{port}/0"
