"""Enter the host: the version that works, and names of its modules, looked up and replaced.

Imports nothing heavy, and nothing of the host before it is asked for.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

from ..errors import UserError


HOST_VERSION = "0.9.5"


def check_host_version() -> None:
    """Refuse a host that the seams were not tried on.

    Raises:
        UserError: with the version found and the one that works.
    """
    found = metadata.version("llamafactory")
    if found != HOST_VERSION:
        raise UserError(
            f"llamafactory {found} is installed, but these stages were tested on {HOST_VERSION} and enter its "
            f"internals; install it again: pip install llamafactory=={HOST_VERSION}"
        )


def seam(module: ModuleType | type, name: str, *parameters: str) -> Any:
    """Return what a name of the host stands for, which we replace or call with arguments of our own.

    Raises:
        UserError: if it is gone or no longer takes these parameters.
    """
    found = getattr(module, name, None)
    where = f"{module.__name__}.{name}"
    if found is None:
        raise UserError(f"the host has no {where} any more; install llamafactory=={HOST_VERSION}")
    if parameters:
        missing = [p for p in parameters if p not in inspect.signature(found).parameters]
        if missing:
            raise UserError(
                f"{where} of the host no longer takes {', '.join(missing)}; install llamafactory=={HOST_VERSION}"
            )
    return found


@contextmanager
def substituted(module: ModuleType | type, **names: Any) -> Iterator[None]:
    """Replace names of a host module, or class, for as long as the block runs."""
    before = {name: seam(module, name) for name in names}
    for name, ours in names.items():
        setattr(module, name, ours)
    try:
        yield
    finally:
        for name, theirs in before.items():
            setattr(module, name, theirs)


def run_command_line() -> None:
    """Run the host's own command line on `sys.argv`."""
    # Imported here, since cli.py answers some commands without anything else of the host.
    from llamafactory.cli import main

    main()
