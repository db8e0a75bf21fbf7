"""One rank of a distributed training: `torchrun -m llamafactory_sdpo.worker CONFIG.yaml [key=value ...]`."""

import atexit
import json
import os
import sys
from pathlib import Path

from . import hidden
from .errors import EXIT_FAILED, EXIT_FILE, EXIT_INPUT, TrainingFailed, UserError, tell
from .screen import quiet
from .whole_files import write_whole


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
    """Train in this rank and return its exit code; a one-line error is left for the launcher to print, once."""
    argv = hidden.whole(sys.argv[1:], f"{__package__}.worker")
    quiet.prepare()
    # Heavy, and its own exit handlers must run before that of `Exit`.
    from .host.arguments import read_args
    from .host.install import install
    from .host.names import host_tuner

    try:
        install()
        host_tuner.run_exp(read_args(argv))
    except (UserError, TrainingFailed) as err:
        code = EXIT_INPUT if isinstance(err, UserError) else EXIT_FAILED
        target = os.environ.get(EXIT_FILE)
        if target is None:
            tell(f"error: {err}")
        else:
            _leave_error(target, {"message": str(err), "code": code, "key": getattr(err, "key", "")})
        return code
    return 0


def _leave_error(target: str, error: dict[str, str | int]) -> None:
    """Write the error atomically; the last rank to fail wins."""
    write_whole(Path(target), json.dumps(error).encode())


if __name__ == "__main__":
    leaving = Exit()
    leaving.code = main()
