"""Fixtures for the command as a process; all state goes to tmp_path.

Not covered here: real providers behind litellm, and a Redis on another machine.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import CLEARED, TIMEOUT_S, Command, Result, Server, environment, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server without faults."""
    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def rough_server() -> Iterator[Server]:
    """A server on which about every third request goes wrong in some way."""
    rates = ("429", "500", "drop", "broken-json", "out-of-range")
    with serving(*(word for rate in rates for word in (f"--rate-{rate}", "0.07"))) as found:
        yield found


@pytest.fixture
def sotopia(tmp_path: Path) -> Command:
    """Run `sotopia …` on a database of this test's own."""

    def run(*arguments: str, **extra: str) -> Result:
        home = {"SDPO_HOME": str(tmp_path / "home"), "CUSTOM_API_KEY": "key-of-the-test", **extra}
        command = [sys.executable, "-m", "sotopia_sdpo", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(**home), cwd=tmp_path, timeout=TIMEOUT_S
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start `sotopia …` and leave it running."""

    def run(*arguments: str) -> "subprocess.Popen[str]":
        env = environment(SDPO_HOME=str(tmp_path / "home"))
        command = [sys.executable, "-m", "sotopia_sdpo", *arguments]
        return subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path
        )

    return run


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `sotopia …` in this process, which has to import upstream only once; otherwise the same."""
    from sotopia_sdpo.cli import app

    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **extra: str) -> Result:
        for name, value in {"SDPO_HOME": str(tmp_path / "home"), "CUSTOM_API_KEY": "key-of-the-test", **extra}.items():
            monkeypatch.setenv(name, value)
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        code = app(list(arguments), prog_name="sotopia", standalone_mode=False)
        signal.signal(signal.SIGTERM, before)
        return Result(code or 0, *capsys.readouterr())

    return run
