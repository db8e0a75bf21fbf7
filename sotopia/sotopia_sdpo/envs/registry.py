"""The environments by name, a row each, and opening one.

Comes in: a name. Goes out: an instance. An installed package adds environments by entry points of the group GROUP;
they cannot take the names of ours. Invariant: what has to be installed is imported when it is opened, and where it is
missing one line says how to get it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from typing import NamedTuple

from sotopia_sdpo.envs.protocol import Environment
from sotopia_sdpo.errors import UserError


class Row(NamedTuple):
    """Where an environment is."""

    module: str
    factory: str
    """What makes an instance in it, without arguments."""
    extra: str = ""
    """The extra of our package that installs what it needs."""


ENVIRONMENTS: dict[str, Row] = {
    "scienceworld": Row("sotopia_sdpo.envs.scienceworld", "ScienceWorld", "scienceworld"),
    "game": Row("sotopia_sdpo.envs.game", "Game"),
}
GROUP = "sotopia_sdpo.environments"
NAME = re.compile(r"[a-z0-9_-]+")
"""A name becomes part of tags and folders."""


def environments() -> dict[str, Row]:
    """Return the environments that can be named: ours, and those of installed packages."""
    found = {point.name: Row(point.module, point.attr) for point in entry_points(group=GROUP)}
    return ENVIRONMENTS | {
        name: row for name, row in found.items() if name not in ENVIRONMENTS and NAME.fullmatch(name)
    }


def max_actions_of(name: str) -> int:
    """Return after how many actions an episode is over, without an instance.

    Raises:
        UserError: if there is no such environment, something that it needs is not installed, or its class lacks it.
    """
    with _explained(name) as row:
        made_by = getattr(import_module(row.module), row.factory)
        if not hasattr(made_by, "max_actions"):
            raise UserError(f"--env {name}: {row.module}:{row.factory} is to be a class that has max_actions itself")
        return int(made_by.max_actions)


def _row(name: str) -> Row:
    known = environments()
    if name not in known:
        raise UserError(f"--env {name!r} is not an environment; expected one of {', '.join(known)}")
    return known[name]


def open_environment(name: str) -> Environment:
    """Make an instance.

    Raises:
        UserError: if there is no such environment, or something that it needs is not installed.
    """
    with _explained(name) as row:
        found: Environment = getattr(import_module(row.module), row.factory)()
    return found


@contextmanager
def _explained(name: str) -> Iterator[Row]:
    """Give the row of an environment; what is not installed becomes a UserError."""
    row = _row(name)
    try:
        yield row
    except ModuleNotFoundError as err:
        remedy = f"`pip install -e 'sotopia[{row.extra}]'` gets it" if row.extra else f"{row.module} needs it"
        raise UserError(f"--env {name}: the package {err.name} is not installed; {remedy}") from err
