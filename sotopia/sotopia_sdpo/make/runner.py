"""Run steps: each once, and again when what it depends on has changed or what it made is gone.

Comes in: steps, in order. Goes out: a line for each, its files and episodes, its output in logs/NAME.log, and in
done/NAME what it depended on. Every step depends on those before it, but for branches: what is in one does not depend
on another, nor does what comes after them on any, so they may run at once.
Invariant: a step counts as done only after all its commands have succeeded, or missed no more than is allowed.
"""

import copy
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from sotopia_sdpo.account import ACCOUNT, read_account
from sotopia_sdpo.errors import EXIT_DONE, EXIT_INCOMPLETE, UserError
from sotopia_sdpo.make.at_once import Gate, run_at_once
from sotopia_sdpo.make.database import Database
from sotopia_sdpo.make.digests import Digests, digest, files_of
from sotopia_sdpo.make.lines import Line, say
from sotopia_sdpo.make.live import Live
from sotopia_sdpo.make.processes import MARK, Group, claimed
from sotopia_sdpo.make.servers import Server, ServerEnded, answers, free_ports, is_free
from sotopia_sdpo.make.steps import Command, Copy, Service, Step, fill
from sotopia_sdpo.places import ROOT
from sotopia_sdpo.whole_files import write_whole


SHOWN_LINES = 5
POLL_S = 0.2
START_TRIES = 3
EXIT_SERVER = 1
MAY_MISS = 0.5
"""The share of a command's episodes or answers that may fail."""


class TooMuchMissed(UserError):
    """More of a step's episodes or answers have failed than is allowed."""

    exit_code = EXIT_INCOMPLETE


T = TypeVar("T")


class Runner:
    """The state of a run; in a `with`, which ends its servers."""

    def __init__(
        self,
        run: Path,
        values: Mapping[str, str] | None = None,
        home: Path | None = None,
        may_miss: float = MAY_MISS,
    ) -> None:
        """Take a run folder.

        Args:
            run: the folder, claimed.
            values: of words in braces in commands.
            home: the run folder that it is part of, if it is one of several.
            may_miss: the share of a command's episodes or answers that may fail.
        """
        self.run = run
        self.home = home or run
        self.may_miss = may_miss
        self._prepare()
        self.database = Database(f"sqlite:///{run / 'sotopia.db'}")
        self.digests = Digests(run / "done" / ".digests.json")
        # The data folder of all that is started here, and the mark by which it is found.
        self.env = {**os.environ, "SDPO_HOME": str(run), "SOTOPIA_DB": self.database.url, MARK: str(run)}
        self.values = {"python": sys.executable, **(values or {})}
        """Of words in braces: the addresses of servers, too."""
        self.keys: dict[str, str] = {}
        """The same by the name of a step: the key of what it has made."""
        self.chain = ""
        """Names the state after the steps so far."""
        self.servers: dict[Service, Server] = {}
        self._numbers = itertools.count(1)
        self._gate: Gate | None = None
        """What branches that run at once have in common; None where this is no such branch."""
        self._place = ""
        """What tells the logs of its servers from those of other branches."""

    def _prepare(self) -> None:
        """Make the folders."""
        for name in ("done", "logs"):
            (self.run / name).mkdir(parents=True, exist_ok=True)
        self._forget_earlier_version()

    @contextmanager
    def inside(self, folder: str) -> Iterator[Self]:
        """Give a runner of a run folder in this one, with a database of its own; servers here end first."""
        self.end_servers()
        run = self.run / folder
        with claimed(run), type(self)(run, self.values, self.home, self.may_miss) as runner:
            yield runner

    def write(self, path: Path, text: str) -> None:
        """Write a file that steps read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)

    @property
    def is_planning(self) -> bool:
        """Whether it only looks what there is to do."""
        return False

    # ---- steps

    def steps(self, steps: Iterable[Step]) -> None:
        """Run steps, one after the other."""
        for step in steps:
            self.step(step)

    def step(self, step: Step) -> None:
        """Run a step, unless it is done."""
        key = self._key(step)
        self.keys[step.name] = key
        line = Line(next(self._numbers), step, is_at_once=self._gate is not None)
        record = self._record(step)
        if record.get("key") == key and self._has_output(step, record):
            line.end("done before")
        else:
            record = self._do(step, key, line)
        self.chain = after(step, key, record)

    def aside(self, step: Step) -> None:
        """Run a step on which no later one depends."""
        self.branches([methodcaller("step", step)])

    def branches(self, branches: Sequence[Callable[[Self], T]], at_once: int = 1) -> list[T]:
        """Run branches, so many at a time, each with a runner of its own; return what they return, in their order.

        One that fails, and a signal, stop the others.
        """
        if at_once == 1 or len(branches) < 2:
            return [self._branch(branch) for branch in branches]
        self.end_servers()  # each branch has its own
        return run_at_once([partial(self._beside, *numbered) for numbered in enumerate(branches, 1)], at_once)

    def _branch(self, branch: Callable[[Self], T]) -> T:
        """Run a branch with the servers that are there."""
        before = self.chain
        try:
            return branch(self)
        finally:
            self.chain = before

    def _beside(self, number: int, branch: Callable[[Self], T], gate: Gate) -> T:
        """Run a branch with servers of its own, while others run."""
        own = copy.copy(self)
        own.values, own.servers, own._gate, own._place = dict(self.values), {}, gate, f".{number}"
        with own:
            return branch(own)

    def tags(self, step: Step) -> list[str]:
        """Return the tags of a step that was run or is being run."""
        return [fill(tag, self._words(step)) for tag in step.tags]

    def _words(self, step: Step) -> dict[str, str]:
        """Return what stands for words in braces in a step."""
        return {**self.values, **self.keys, "key": self.keys[step.name]}

    def _key(self, step: Step) -> str:
        """Digest what a step depends on, wherever the run folder and the checkout are."""
        found = json.dumps([self.chain, step.name, step.words(), self.digests.of(step.files())], ensure_ascii=False)
        for place, word in ((self.run, "RUN"), (self.home, "HOME"), (ROOT, "ROOT")):
            found = found.replace(str(place), word)
        return digest(found)

    def _record(self, step: Step) -> dict[str, Any]:
        try:
            found = json.loads((self.run / "done" / step.name).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _has_output(self, step: Step, record: Mapping[str, Any]) -> bool:
        """Return whether all outputs of a step are there, even if changed by hand."""
        return (
            all((self.run / name).exists() for name in record["wrote"])
            and all(self.database.counts(self.tags(step)))
            and (not step.fills_world or self.database.has_world())
        )

    def _do(self, step: Step, key: str, line: Line) -> dict[str, Any]:
        """Run a step and write down that it is done."""
        started, before = time.monotonic(), self._record(step)
        made = _times_made(before, key)
        if key not in (before.get("key"), before.get("begun")):
            for path in step.writes:
                _empty(path)
        write_whole(self.run / "done" / step.name, json.dumps({"begun": key, "made": made}))
        log = self.run / "logs" / f"{step.name}.log"
        live = line.live(log)
        try:
            self._serve(step)
            with log.open("wb") as out:
                for action in step.actions:
                    code = self._act(step, action, out, live)
                    if code == EXIT_INCOMPLETE and isinstance(action, Command) and action.may_miss:
                        self._check_missed(step, log)
                    elif code:
                        raise self._failed(line, log, code)
        except ServerEnded as err:
            raise self._failed(line, err.log, EXIT_SERVER, "a server ended") from None
        except UserError:
            line.end("failed")
            raise
        wrote = [os.path.relpath(file, self.run) for path in step.writes for file in files_of(path)]
        seconds = round(time.monotonic() - started, 1)
        record = {"key": key, "made": made, "wrote": wrote, "seconds": seconds, **self.database.took(self.tags(step))}
        write_whole(self.run / "done" / step.name, json.dumps(record))
        minutes, seconds = divmod(round(seconds), 60)
        line.end(f"{minutes}:{seconds:02}  {self._remark(step)}".rstrip())
        return record

    def _remark(self, step: Step) -> str:
        if not step.tags:
            return step.remark()
        counts = self.database.counts(self.tags(step))
        scored = sum(one.get("scored", 0) for one in counts)
        return f"{scored} of {sum(sum(one.values()) for one in counts)} episodes scored"

    def _failed(self, line: Line, log: Path, code: int, why: str = "failed") -> SystemExit:
        """Print what failed and where its log is; return the exit."""
        self._go_on()
        line.end(f"{why}, exit code {code}")
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        print(*lines[-SHOWN_LINES:], sep="\n", file=sys.stderr)
        print(f"all of it: {log}; the same command goes on from here", file=sys.stderr, flush=True)
        return SystemExit(code)

    def _account(self, step: Step) -> Path:
        """The file in which a step's command says what it has missed."""
        return self.run / "logs" / f"{step.name}.missed.json"

    def _check_missed(self, step: Step, log: Path) -> None:
        """Let a step go on if not too many of its episodes or answers have failed, and all have been tried."""
        missed = read_account(self._account(step))
        if missed is None or self.may_miss == 1:
            return
        # Where an agent's failures are what is looked for, those of its judge are not.
        is_of_agent = step.may_miss_all and not missed.is_stopped
        number = missed.unscored if is_of_agent else missed.number
        if number <= self.may_miss * missed.total and not missed.is_stopped:
            return
        why = "and the rest was not tried" if missed.is_stopped else f"more than MAY_MISS={self.may_miss:g} of them"
        raise TooMuchMissed(
            f"{step.name}: {number} of {missed.total} {missed.unit} failed (most: {missed.reason}), {why}; mend that, "
            f"and the same command tries them again; MAY_MISS=1 goes on without them; all of it: {log}"
        )

    def _forget_earlier_version(self) -> None:
        """Remove what an earlier version has noted as done, by checksums of other things."""
        earlier = [file for file in (self.run / "done").iterdir() if file.read_text("utf-8").isdecimal()]
        for file in earlier:
            file.unlink()
        if earlier:
            say(f"{self.run}: made by an earlier version; every step is done again, and samples under new tags")

    # ---- processes

    def _act(self, step: Step, action: Command | Copy, log: IO[bytes], live: Live | None) -> int:
        """Run an action while all servers live, and return its exit code."""
        if isinstance(action, Copy):
            action.run()
            return EXIT_DONE
        account = self._account(step)
        account.unlink(missing_ok=True)
        env = {**self.env, ACCOUNT: str(account)}
        group = Group([fill(word, self._words(step)) for word in action.argv], log, log, env)
        try:
            while (code := group.code(POLL_S)) is None:
                self._check_servers()
                self._go_on()
                if live:
                    live.look()
        finally:
            if live:
                live.clear()
            group.end()
        self._check_servers()
        return code

    def _go_on(self) -> None:
        """Leave the branch if another one that runs at once has failed, or a signal has come."""
        if self._gate:
            self._gate.check()

    def _check_servers(self) -> None:
        for server in self.servers.values():
            server.check()

    def _serve(self, step: Step) -> None:
        """Start the servers that a step needs and end those that are in its way."""
        names = {service.name for service in step.services}
        for service in list(self.servers):
            if step.is_alone or (service.name in names and service not in step.services):
                self.servers.pop(service).end()
        for service in step.services:
            if service not in self.servers:
                self._start(service)
        self._check_servers()

    def _start(self, service: Service) -> None:
        for tries_left in reversed(range(START_TRIES)):
            ports = free_ports(service.replicas)
            server = self._server(service, ports)
            try:
                self.servers[service] = server.start()
            except ServerEnded:
                # Another process may have taken a port since it was found free.
                if not tries_left or all(map(is_free, ports)):
                    raise
                continue
            self.values[service.name] = ",".join(f"http://127.0.0.1:{port}/v1/" for port in ports)
            return

    def _server(self, service: Service, ports: list[int]) -> Server:
        """Prepare a server, which is ready when it says on its standard output that it serves, and does."""
        log, out = (self.run / "logs" / f"{service.log}{self._place}.{suffix}" for suffix in ("log", "out"))
        asked = [answers(f"http://127.0.0.1:{port}/health") for port in ports]
        argv = [fill(word, self.values) for word in service.argv(ports[0])]

        def is_ready() -> bool:
            self._go_on()
            return out.stat().st_size > 0 and all(ask() for ask in asked)

        return Server(argv, log=log, out=out, env=self.env, ready=is_ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end_servers()

    def end_servers(self) -> None:
        """End the servers that it has started."""
        # The last first, so that nobody waits for an answer of a server that is gone.
        for server in reversed(self.servers.values()):
            server.end()
        self.servers.clear()


def _empty(folder: Path) -> None:
    """Remove what another version of a step has left in a folder: a training would go on from checkpoints of it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _times_made(before: Mapping[str, Any], key: str) -> int:
    """Return how often a step is made, this time too; no random name, so that other run folders have the same tags."""
    made = before.get("made")
    if not isinstance(made, int):
        return 1
    return made if before.get("begun") == key else made + 1 if before.get("key") == key else 1


def after(step: Step, key: str, record: Mapping[str, Any]) -> str:
    """Return the state after a step: new episodes under the tags of old ones change what is made of them."""
    return digest(f"{key}{record['made']}") if step.tags else key
