"""`llamafactory-cli` (and `lmf`) with our stages: the host's command line, whose `train` goes through our launcher."""

import os
import sys

from .errors import UserError, place_of, run_at_edge
from .host.seams import run_command_line


HOST_ONLY = ("version", "env", "help")
"""Commands of the host that need no stage of ours, so that they answer without the seams' heavy imports."""


def main() -> int:
    """Run one command and return its exit code: 0 done, 1 bug, 2 wrong input, 130 interrupted."""
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    config = sys.argv[2] if len(sys.argv) > 2 and not sys.argv[2].startswith("-") else ""
    return run_at_edge(lambda: _run_with(config, command) if config else _run(command))


def _run_with(config: str, command: str) -> int | None:
    """Run a command, and say in its UserErrors where what is wrong was given."""
    try:
        return _run(command)
    except UserError as err:
        raise UserError(f"{place_of(err, config, sys.argv[3:])}: {err}") from None


def _run(command: str) -> int | None:
    is_v1 = os.environ.get("USE_V1", "0").lower() in ("1", "true", "y")
    # Heavy imports below, which the commands of HOST_ONLY do without.
    if command == "train" and not is_v1:
        from .launcher import train

        return train(sys.argv[2:])
    if command not in HOST_ONLY and not is_v1:
        from .host.install import install

        install()
    run_command_line()
    return 0


if __name__ == "__main__":
    sys.exit(main())
