"""One rank of a distributed training: `torchrun -m llamafactory_sdpo.worker CONFIG.yaml [key=value ...]`."""

import atexit
import json
import os
import sys

from .errors import EXIT_FILE, EXIT_INPUT, UserError


class Exit:
    """Ends the process with `code` after all other exit handlers; the code is 1 until it is known."""

    def __init__(self) -> None:
        # Exit handlers run last in, first out, so this is the last of those that are registered from now on. After
        # them Python would take itself down, while threads of gloo still let go of tensors: now and then that aborts
        # a rank whose work is done, and with it the whole training (pytorch/pytorch issue 190489).
        self.code = 1
        atexit.register(self._leave)

    def _leave(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def main() -> int:
    """Train in this rank and return its exit code; a UserError is left for the launcher to print, once."""
    # Heavy, and its own exit handlers must run before that of `Exit`.
    from .host.arguments import read_args
    from .host.install import install
    from .host.names import host_tuner

    try:
        install()
        host_tuner.run_exp(read_args(sys.argv[1:]))
    except UserError as err:
        target = os.environ.get(EXIT_FILE)
        if target is None:
            print(f"error: {err}", file=sys.stderr)
        else:
            _leave_message(target, str(err))
        return EXIT_INPUT
    return 0


def _leave_message(target: str, message: str) -> None:
    """Write the message atomically; the last rank to fail wins."""
    mine = f"{target}.{os.getpid()}"
    with open(mine, "w", encoding="utf-8") as file:
        json.dump({"message": message}, file)
    os.replace(mine, target)


if __name__ == "__main__":
    leaving = Exit()
    leaving.code = main()
