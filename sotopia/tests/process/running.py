"""The command as a process, and the scripted server it talks to."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


LISTENING = "listening on "
TIMEOUT_S = 120
CLEARED = ("SOTOPIA_DB", "SDPO_", "OPENAI_", "CUSTOM_")
"""Settings of the shell that no test may depend on."""
PACKAGE = Path(__file__).resolve().parents[2]


def environment(**extra: str) -> dict[str, str]:
    """Give a process our package and none of this shell's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    path = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH", ""))))
    return {**kept, "PYTHONPATH": path, "COLUMNS": "200", **extra}


class Server:
    """A scripted server that is running."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        """Keep its address."""
        self.url = url
        self.process = process

    def model(self, name: str) -> str:
        """Name a model that it plays."""
        return f"custom/{name}@{self.url}/"

    def stats(self) -> dict[str, Any]:
        """Read its counters."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as response:
            return json.load(response)


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Run a scripted server."""
    command = [sys.executable, "-m", "sotopia_sdpo", "simulate", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        banner = process.stdout.readline()
        line = process.stdout.readline()
        assert "SIMULATION" in banner and line.startswith(LISTENING), banner + line
        try:
            yield Server(line.removeprefix(LISTENING).strip(), process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


class Result(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]
