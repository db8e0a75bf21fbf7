"""Server processes: start them, wait until they answer, watch them, and leave none behind.

A server runs in a session of its own, so that a signal to us does not tear it down halfway and its helpers can be
ended with it. If we are killed outright, the kernel ends the server (on Linux).
"""

import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .asking import DIRECTLY


POLL_S = 0.3
PROGRESS_S, TERMINAL_PROGRESS_S = 15.0, 1.0
TERMINATE_S = 15.0
SHOWN_LINES = 12
READ_BYTES = 200_000

ERROR_LINE = re.compile(r"\b(\w*(?:Error|Exception)|error): (.+)")
CONSEQUENCES = ("See root cause above", "initialization failed", "Engine core", "EngineCore", "WARNING")
"""Marks of log lines that only follow from an error elsewhere."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


class ServerDied(Exception):
    """A server that answered has ended on its own."""


class Command(NamedTuple):
    """How to start a server, and the address at which it will answer."""

    argv: list[str]
    env: dict[str, str]
    url: str
    """Without /v1."""
    log: Path


class Server:
    """A running server."""

    def __init__(self, command: Command) -> None:
        """Start it; its output goes into its log."""
        self.url, self.log = command.url, command.log
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("wb") as log:
            self.process = subprocess.Popen(
                command.argv,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def is_alive(self) -> bool:
        """Return whether it is still running."""
        return self.process.poll() is None

    def answers(self) -> bool:
        """Return whether it is ready."""
        try:
            with DIRECTLY.open(f"{self.url}/health", timeout=5):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def last_lines(self) -> list[str]:
        """Return the end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - READ_BYTES))
            return log.read().decode(errors="replace").splitlines()

    def reason(self) -> str:
        """Return in one line why it ended, as far as its log shows."""
        lines = [line for line in self.last_lines() if not any(mark in line for mark in CONSEQUENCES)]
        found = [match for line in lines if (match := ERROR_LINE.search(line))]
        return f"{found[-1][1]}: {found[-1][2]}"[:400] if found else f"exit code {self.process.returncode}"

    def signal_all(self, number: int) -> bool:
        """Signal the server and its helpers; return whether any is left."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def check_port(host: str, port: int) -> None:
    """Refuse a port that something listens on.

    Raises:
        UserError: with the remedy.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as err:
            raise UserError(
                f"port {port} of {host}: {(err.strerror or str(err)).lower()}; give another one, "
                f"port={port + 1} for instance, or end what listens there"
            ) from None


def interrupt_when_terminated() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does, unless they are ignored (nohup)."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


@contextmanager
def running(commands: list[Command]) -> Iterator[list[Server]]:
    """Run servers for as long as the block runs."""
    servers: list[Server] = []
    try:
        for command in commands:
            servers.append(Server(command))
        yield servers
    finally:
        # A second Ctrl-C must not leave half of them running.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
        stop(servers)
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(servers: list[Server]) -> None:
    """End servers and all their helpers, by force after TERMINATE_S."""
    for server in servers:
        server.signal_all(signal.SIGTERM)
    deadline = time.monotonic() + TERMINATE_S
    while time.monotonic() < deadline:
        for server in servers:
            server.is_alive()  # reaps it, so that its group can become empty
        if not any(server.signal_all(0) for server in servers):
            return
        time.sleep(POLL_S)
    for server in servers:
        server.signal_all(signal.SIGKILL)
        server.process.wait()


def wait_until_ready(servers: list[Server], say: Callable[[str], None]) -> None:
    """Wait until all servers answer, with a line of progress.

    Raises:
        UserError: if one ends instead; its last lines are printed.
    """
    started = last = time.monotonic()
    waiting = list(servers)
    while waiting:
        for server in waiting:
            if not server.is_alive():
                print("\n".join(["", *server.last_lines()[-SHOWN_LINES:]]), file=sys.stderr)
                raise UserError(f"the server ended before it was ready: {server.reason()} (all of it: {server.log})")
        waiting = [server for server in waiting if not server.answers()]
        now = time.monotonic()
        if waiting and now - last >= (TERMINAL_PROGRESS_S if sys.stderr.isatty() else PROGRESS_S):
            last = now
            say(f"waiting until {len(waiting)} of {len(servers)} answer, {now - started:.0f} s")
        if waiting:
            time.sleep(POLL_S)


def watch(servers: list[Server]) -> None:
    """Sleep as long as all servers live.

    Raises:
        ServerDied: if one ends on its own; its last lines are printed.
    """
    while True:
        for server in servers:
            if not server.is_alive():
                print("\n".join(server.last_lines()[-SHOWN_LINES:]), file=sys.stderr)
                raise ServerDied(f"the server at {server.url} ended: {server.reason()} (all of it: {server.log})")
        time.sleep(POLL_S)
