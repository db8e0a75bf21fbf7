"""A step of the loop: what it runs, what that depends on, and what comes of it.

Commands are written with words in braces for what changes nothing ({python}, {batch}), for what is known only when
they run ({agent}, {simulation}: addresses of servers), and for digests: {key} of the step itself, {NAME} of another.
So a step's commands as they are written, and the content of what it reads, are all that it depends on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sotopia_sdpo.places import step_command


@dataclass(frozen=True)
class Command:
    """A command to run."""

    argv: tuple[str, ...]
    may_miss: bool = False
    """Whether exit code 3 may be good enough: some episodes or answers failed, and are counted."""

    def words(self) -> tuple[str, ...]:
        """Return what it depends on."""
        return self.argv


@dataclass(frozen=True)
class Copy:
    """A file to copy, with a text replaced."""

    source: Path
    target: Path
    old: str = ""
    new: str = ""

    def words(self) -> tuple[str, ...]:
        """Return what it depends on."""
        return "copy", str(self.source), str(self.target), self.old, self.new

    def run(self) -> None:
        """Copy it."""
        text = self.source.read_text("utf-8")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(text.replace(self.old, self.new) if self.old else text, "utf-8")


@dataclass(frozen=True)
class Service:
    """A server that steps need; one of a name runs at a time."""

    name: str
    """The word that stands for its addresses."""
    log: str
    argv: Callable[[int], tuple[str, ...]] = field(compare=False)
    """Its command, given the first of its ports."""
    words: tuple[str, ...] = ()
    """What its answers depend on, besides files."""
    reads: tuple[Path, ...] = ()
    replicas: int = 1


@dataclass(frozen=True)
class Step:
    """A step."""

    name: str
    what: str
    actions: tuple[Command | Copy, ...]
    reads: tuple[Path, ...] = ()
    """Files, and folders of models."""
    writes: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    """Under which it samples episodes."""
    services: tuple[Service, ...] = ()
    is_alone: bool = False
    """Whether it has the machine for itself: a server would hold the memory of the GPUs."""
    may_miss_all: bool = False
    """Whether its agent may fail in any number of episodes, since that is what it finds out."""
    fills_world: bool = False
    """Whether it imports scenarios into the database."""
    remark: Callable[[], str] = field(default=lambda: "", compare=False)
    """What came of it, in a few words, where it does not sample."""

    def words(self) -> list[list[str]]:
        """Return what it depends on, besides files."""
        return [list(one) for one in (*(a.words() for a in self.actions), *(s.words for s in self.services))]

    def files(self) -> list[Path]:
        """Return what it depends on by its content."""
        return [*self.reads, *(path for service in self.services for path in service.reads)]


def fill(word: str, values: Mapping[str, str]) -> str:
    """Put values into a word of a command; braces around other words stay."""
    return re.sub(r"\{([\w.]+)\}", lambda found: values.get(found[1], found[0]), word)


def script(name: str, *options: str, may_miss: bool = False) -> Command:
    """Return the command of a script of dpo/."""
    return Command((*step_command(name), *options), may_miss)


def sotopia(*arguments: str, may_miss: bool = False) -> Command:
    """Return a command of `sotopia`."""
    return Command(("{python}", "-m", "sotopia_sdpo", *arguments), may_miss)
