"""One rank of a distributed training: `torchrun -m llamafactory_sdpo.worker CONFIG.yaml [key=value ...]`."""

import json
import os
import sys

from .errors import EXIT_INPUT, UserError
from .launcher import EXIT_FILE


def main() -> int:
    """Train in this rank; a UserError is left for the launcher to print, once."""
    from . import register

    try:
        register.install()
        register.host_tuner.run_exp(register.read_args(sys.argv[1:]))
    except UserError as err:
        target = os.environ.get(EXIT_FILE)
        if target is None:
            print(f"error: {err}", file=sys.stderr)
        else:
            _leave(target, str(err))
        return EXIT_INPUT
    return 0


def _leave(target: str, message: str) -> None:
    """Write the message whole or not at all; the last rank to fail wins."""
    mine = f"{target}.{os.getpid()}"
    with open(mine, "w", encoding="utf-8") as file:
        json.dump({"message": message}, file)
    os.replace(mine, target)


if __name__ == "__main__":
    sys.exit(main())
