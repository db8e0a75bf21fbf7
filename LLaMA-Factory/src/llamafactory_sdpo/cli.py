"""`llamafactory-cli` (and `lmf`) with our stages: the host's command line, whose `train` goes through our launcher."""

import os
import sys

from . import hidden
from .demo.smollm2 import with_path
from .errors import given_in, run_at_edge
from .host.seams import run_command_line
from .places import example
from .screen import quiet
from .train import asks_for_check
from .train import run as train_example


HOST_ONLY = ("version", "env", "help")
"""Commands of the host that need no stage of ours, so that they answer without the seams' heavy imports."""


def main() -> int:
    """Run one command and return its exit code: 0 done, 1 bug, 2 wrong input, 130 interrupted."""
    sys.argv[1:] = with_path(hidden.whole(sys.argv[1:], f"{__package__}.cli"))
    quiet.prepare()
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    config = sys.argv[2] if len(sys.argv) > 2 and not sys.argv[2].startswith("-") else ""
    if command == "train" and config and not _is_v1() and not os.path.exists(config) and (own := example(config)):
        return run_at_edge(lambda: train_example([str(own), *sys.argv[3:]]))
    return run_at_edge(lambda: _run_with(config, command) if config else _run(command))


def _is_v1() -> bool:
    """Return whether the host is asked for its other line of commands."""
    return os.environ.get("USE_V1", "0").lower() in ("1", "true", "y")


def _run_with(config: str, command: str) -> int | None:
    """Run a command, and say in its UserErrors where what is wrong was given."""
    with given_in(config, sys.argv[3:]):
        return _run(command)


def _run(command: str) -> int | None:
    # Heavy imports below, which the commands of HOST_ONLY do without.
    if command == "train" and not _is_v1():
        is_check, argv = asks_for_check(sys.argv[2:])
        if is_check:
            from .check import check

            check(argv)
            return 0
        from .launcher import train

        return train(argv)
    if command not in HOST_ONLY and not _is_v1():
        from .host.install import install, install_board

        install()
        if command == "webui":
            install_board()
    run_command_line()
    return 0


if __name__ == "__main__":
    sys.exit(main())
