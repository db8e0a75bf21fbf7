"""Start a training: in this process, in the ranks of torchrun, or on Ray.

Reads the environment variables of the host's own launcher. What differs: arguments are passed as a list, so paths may
contain spaces; ranks run `llamafactory_sdpo.worker`, which knows our stages; config and data are checked once, here,
before any rank starts; and a rank's exit code is the launcher's.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import hidden
from .entries import files_named_otherwise
from .errors import EXIT_FAILED, EXIT_FILE, EXIT_INTERRUPTED, OptionError, TrainingFailed, UserError, printable
from .host.arguments import read_args
from .host.data import prepare_pairs
from .host.install import install
from .host.names import find_available_port, get_device_count, host_tuner, is_env_enabled, use_kt, use_ray


def train(argv: list[str]) -> int:
    """Train with a config file and overrides, or with flags, as `llamafactory-cli train` takes them.

    Raises:
        UserError: if the config or the data is wrong, here or in a rank.
        TrainingFailed: if the training could not end well.
    """
    install()
    args = read_args(argv)
    if isinstance(args, dict):
        announce_files(args)
    asked_for_help = not isinstance(args, dict) and bool({"-h", "--help"} & set(args))
    if asked_for_help or not _distributed():
        if use_ray() and not asked_for_help:
            prepare_pairs(args)
        host_tuner.run_exp(args)
        return 0
    prepare_pairs(args)
    return _torchrun(argv)


def announce_files(args: dict[str, Any]) -> None:
    """Print the files of the datasets whose names do not tell them, and of those that follow SDPO_HOME."""
    named = [args.get(option) or [] for option in ("dataset", "eval_dataset")]
    # A name may be a number, which is checked and read as text later.
    lists = [part if isinstance(part, list) else str(part).split(",") for part in named]
    names = [str(name).strip() for part in lists for name in part]
    for name, path in files_named_otherwise(names, args.get("dataset_dir", "data")).items():
        print(f"dataset {printable(name)} is {printable(str(path))}", flush=True)


def _distributed() -> bool:
    """Return whether to start ranks of torchrun, by the rules of the host."""
    if is_env_enabled("FORCE_TORCHRUN") or is_env_enabled("USE_MCA"):
        return True
    return bool(get_device_count() > 1 and not use_ray() and not use_kt())


def ranks_of(workers: int) -> int:
    """Return how many ranks a training has on all machines, by the variables of the host's launcher.

    Args:
        workers: `ray_num_workers`.

    Raises:
        UserError: if the number of machines is none.
    """
    if not _distributed():
        return workers if use_ray() else 1
    nodes = _nodes(dict(os.environ))
    # An elastic training begins with the fewest.
    fewest = nodes.partition(":")[0]
    if not fewest.isdigit():
        raise UserError(f"NNODES is {nodes!r}, expected a number of machines, or MIN:MAX")
    return _ranks_here(dict(os.environ)) * int(fewest)


def _nodes(env: dict[str, str]) -> str:
    """Return the number of machines as torchrun takes it."""
    if "RDZV_ID" in env and "MIN_NNODES" in env and "MAX_NNODES" in env:
        return f"{env['MIN_NNODES']}:{env['MAX_NNODES']}"
    return env.get("NNODES", "1")


def _ranks_here(env: dict[str, str]) -> int:
    """Return how many ranks this machine has; torchrun also takes words, as `auto`, which stand for its devices."""
    given = env.get("NPROC_PER_NODE", "")
    return int(given) if given.isdigit() else max(1, get_device_count())


def torchrun_command(argv: list[str], env: dict[str, str]) -> list[str]:
    """Return the command that starts the ranks of this node.

    Args:
        argv: config and overrides.
        env: NNODES, NODE_RANK, NPROC_PER_NODE, MASTER_ADDR, MASTER_PORT, or for elastic runs RDZV_ID, MIN_NNODES,
            MAX_NNODES, MAX_RESTARTS.
    """
    address = env.get("MASTER_ADDR", "127.0.0.1")
    port = env.get("MASTER_PORT") or str(find_available_port())
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--nproc-per-node", env.get("NPROC_PER_NODE") or str(max(1, get_device_count()))]
    if "RDZV_ID" in env:
        command += ["--nnodes", _nodes(env), "--rdzv-id", env["RDZV_ID"], "--rdzv-backend", "c10d"]
        command += ["--rdzv-endpoint", f"{address}:{port}", "--max-restarts", env.get("MAX_RESTARTS", "0")]
    else:
        command += ["--nnodes", _nodes(env), "--node-rank", env.get("NODE_RANK", "0")]
        command += ["--master-addr", address, "--master-port", port]
    return [*command, "-m", "llamafactory_sdpo.worker", *argv]


def _torchrun(argv: list[str]) -> int:
    """Run the ranks and return their exit code; a one-line error of one of them is raised here."""
    env = dict(os.environ)
    if is_env_enabled("OPTIM_TORCH", "1"):
        # The host's settings for DDP on GPUs.
        env |= {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCH_NCCL_AVOID_RECORD_STREAMS": "1"}
    if _ranks_here(env) > 1:
        # As torchrun would set it, with a warning.
        env.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="sdpo-") as folder:
        env[EXIT_FILE] = str(Path(folder) / "error.json")
        rest, secrets = hidden.split(argv)
        with subprocess.Popen(torchrun_command(rest, env), env=env | hidden.handing_on(secrets)) as ranks:
            signal.signal(signal.SIGTERM, lambda *_: ranks.terminate())
            try:
                code = ranks.wait()
            except KeyboardInterrupt:
                # The ranks have had the same signal; torchrun ends them.
                ranks.wait()
                return EXIT_INTERRUPTED
        # A rank may have left it before torchrun started all of them anew, to a good end.
        if code and os.path.exists(env[EXIT_FILE]):
            _raise_error(json.loads(Path(env[EXIT_FILE]).read_text(encoding="utf-8")))
    return 1 if code < 0 else code


def _raise_error(left: dict[str, Any]) -> None:
    """Raise the error that a rank has left."""
    if left["code"] == EXIT_FAILED:
        raise TrainingFailed(left["message"])
    raise OptionError(left["key"], left["message"]) if left["key"] else UserError(left["message"])
