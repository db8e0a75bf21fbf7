"""`llamafactory-cli` (and `lmf`) with our stages: the host's command line, whose `train` goes through our launcher."""

import os
import sys

from .errors import run_at_edge


HOST_ONLY = ("version", "env", "help")
"""Commands that need none of our seams, so that they answer without importing them."""


def main() -> int:
    """Run one command; the exit codes are those of design: 0 done, 1 bug, 2 wrong input, 130 interrupted."""
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    config = sys.argv[2] if len(sys.argv) > 2 and not sys.argv[2].startswith("-") else ""
    return run_at_edge(lambda: _run(command), prefix=f"{config}: " if config else "")


def _run(command: str) -> int | None:
    if command in HOST_ONLY or os.environ.get("USE_V1", "0").lower() in ("1", "true", "y"):
        return _host()
    if command == "train":
        from .launcher import train

        return train(sys.argv[2:])
    from . import register

    register.install()
    return _host()


def _host() -> None:
    from llamafactory.cli import main as host_main

    host_main()


if __name__ == "__main__":
    sys.exit(main())
