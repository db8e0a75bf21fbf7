"""Train in the workers of a Ray cluster through the host's own launcher, which finds them; what ends one is one line.

For every device of the cluster that launcher reserves ten CPUs, a CPU being a device where there is no other, and
waits for ever for what is not there. Here the workers alone are reserved for, and what is missing is said.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import OptionError, TrainingFailed, UserError, one_line
from .names import host_tuner
from .seams import seam, substituted


FOLDER = "SDPO_WORKING_FOLDER"
"""The variable that tells a worker where the command was started, for the paths of its config."""

CPUS = 10
"""That the host reserves for a worker."""


def run_on_ray(host: Callable[..., None], ray_args: Any, config: dict[str, Any]) -> None:
    """Stand in for the host's `_ray_training_function`.

    Args:
        host: that function.
        ray_args: the arguments of Ray.
        config: of the training, for its workers.

    Raises:
        UserError: if Ray or what the workers need is not there, or a worker refuses the config.
        TrainingFailed: if the training could not end well in a worker, or a worker died.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("USE_RAY is set, but Ray is not installed; pip install 'ray[default]', or unset it")
    os.environ[FOLDER] = os.getcwd()
    place = partial(_reserved, seam(host_tuner, "get_placement_group", "num_workers"), ray_args.ray_num_workers)
    try:
        with substituted(host_tuner, get_placement_group=place):
            host(ray_args, config)
    except Exception as err:
        error = _in_one_line(err)
        if error is None or error is err:
            raise
        raise error from None


def enter_folder() -> None:
    """Work, in a worker, where the command was started.

    Raises:
        UserError: if this machine has no such folder.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    try:
        os.chdir(folder)
    except OSError as err:
        raise UserError(f"{os.uname().nodename}: {one_line(err)}; every machine of the cluster needs it") from None


def _reserved(host: Callable[[int], Any], workers: int, devices: int) -> Any:
    """Reserve CPUs and a device for each worker, all on one machine; the cluster has this many devices."""
    device = seam(host_tuner, "get_device_name")().upper()
    nodes = [node["Resources"] for node in seam(host_tuner, "ray").nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    places = sum(
        own // CPUS if device == "CPU" else min(own // CPUS, int(node.get(device, 0)))
        for own, node in zip(cpus, nodes, strict=True)
    )
    if workers > places:
        raise OptionError(
            "ray_num_workers",
            f"ray_num_workers is {workers}, and the host asks for {CPUS} CPUs a worker, beside its device, but the "
            f"cluster's machines, of {', '.join(map(str, cpus))} CPUs, have them for {places}; ask for fewer workers, "
            "or start its nodes with --num-cpus",
        )
    return host(workers)


def _in_one_line(err: Exception) -> Exception | None:
    """Return the error of a worker as it was raised there, or why there is no worker; None for a bug."""
    cause = getattr(err, "cause", err)
    if isinstance(cause, UserError | TrainingFailed):
        return cause
    if isinstance(err, seam(host_tuner, "ray").exceptions.RayActorError):
        return TrainingFailed(
            f"a worker of Ray has died ({one_line(err)[:200]}); the same command goes on from the last whole "
            "checkpoint in output_dir"
        )
    # Of the host itself: what a worker raises is an error of Ray's as well.
    is_refusal = isinstance(err, ValueError) and not isinstance(err, seam(host_tuner, "ray").exceptions.RayError)
    return UserError(f"Ray: {one_line(err)[:200]}") if is_refusal or isinstance(err, ConnectionError) else None
