"""Server processes: start one, wait until it is ready, and end it with all that it has started.

    with Server(argv, log=path, ready=answers(url)) as server:
        ...

Invariant: once the block is entered the server is ready, and once it is left nothing of it runs.
"""

import http.client
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.make.live import last_line
from sotopia_sdpo.make.processes import POLL_S, Group


LOOPBACK = "127.0.0.1"
ASK_S = 5.0
PORT_TRIES = 50


READY_S = 3600.0
"""Until a server that lives and is not ready is given up: a large model takes long to load from a slow disk."""


class ServerNotReady(UserError):
    """A server has not become ready in time."""

    exit_code = 1


class ServerEnded(Exception):
    """A server has ended by itself."""

    def __init__(self, log: Path, code: int) -> None:
        """Keep where it says why."""
        super().__init__(f"a server ended with exit code {code}; see {log}")
        self.log = log
        self.code = code


class Server:
    """A server process; in a `with`, it is ready."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool],
        out: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the server.

        Args:
            argv: the command.
            log: where its output goes.
            ready: whether it can be used by now; asked again and again.
            out: where its standard output goes instead.
            env: its environment instead of ours.
        """
        self.argv = argv
        self.log = log
        self.ready = ready
        self.out = out
        self.env = env
        self._group: Group | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._group, "the server has not been started"
        return self._group.process.pid

    def start(self) -> Self:
        """Start it, and wait until it is ready.

        Raises:
            ServerEnded: if it ends before.
            ServerNotReady: if it takes longer than READY_S.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            log = opened.enter_context(self.log.open("wb"))
            out = opened.enter_context(self.out.open("wb")) if self.out else log
            self._group = Group(self.argv, out, log, self.env)
        deadline = time.monotonic() + READY_S
        try:
            while not self.ready():
                self.check()
                if time.monotonic() > deadline:
                    raise ServerNotReady(
                        f"a server is not ready after {READY_S:.0f} s; its log ends with {last_line(self.log)!r}; "
                        f"all of it: {self.log}"
                    )
                time.sleep(POLL_S)
            self.check()
        except BaseException:
            self.end()
            raise
        return self

    def check(self) -> None:
        """Make sure that it lives.

        Raises:
            ServerEnded: if it does not.
        """
        code = self._group.code() if self._group else 0
        if code is not None:
            raise ServerEnded(self.log, code)

    def end(self) -> None:
        """End it, if it was started."""
        if self._group:
            self._group.end()
            self._group = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.end()


@contextmanager
def scripted_server(log: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `sotopia simulate` with these options for as long as the block runs, which is given its /v1 address."""
    (port,) = free_ports()
    argv = (sys.executable, "-m", "sotopia_sdpo", "simulate", "--port", str(port), *options)
    url = f"http://{LOOPBACK}:{port}"
    with Server(argv, log=log, ready=answers(f"{url}/health"), env=env):
        yield f"{url}/v1"


def answers(url: str) -> Callable[[], bool]:
    """Return what asks whether a GET of a URL of this machine succeeds; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> bool:
        try:
            with opener.open(url, timeout=ASK_S) as response:
                return bool(response.status < 300)
        except (OSError, http.client.HTTPException):
            return False

    return ask


def free_ports(count: int = 1) -> list[int]:
    """Find ports next to each other on which nothing listens."""
    for _ in range(PORT_TRIES):
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            first = probe.getsockname()[1]
        ports = list(range(first, first + count))
        if ports[-1] < 2**16 and all(map(is_free, ports)):
            return ports
    raise OSError(f"no {count} free ports next to each other were found")


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
