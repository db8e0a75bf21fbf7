"""Trainings in processes of their own, which are killed or run into a full disk.

One process loads the packages once, and every training is forked from it, so a training takes a second and not ten.
"""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file


LOG = "trainer_log.jsonl"
"""The host's, with a line for every step."""

PATIENCE_S = 300
STEPS = {"logging_steps": 1, "save_strategy": "steps", "overwrite_output_dir": False}
"""The options of a training whose command can be repeated until it has ended."""

_processes = multiprocessing.get_context("forkserver")
# The last two are imported by the first step.
_processes.set_forkserver_preload(["llamafactory_sdpo.host.install", "deepspeed", "torch._dynamo"])


def _run(config: dict[str, object], log: str, largest_file: int | None) -> None:
    """Train, in a forked process, and end with the exit code of our commands."""
    from llamafactory_sdpo.errors import run_at_edge
    from llamafactory_sdpo.host.install import install
    from llamafactory_sdpo.host.names import host_tuner

    with Path(log).open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    install()
    code = run_at_edge(lambda: host_tuner.run_exp(config))
    sys.stderr.flush()
    os._exit(code)


class Training:
    """A training under way."""

    def __init__(self, config: dict[str, object], largest_file: int | None = None) -> None:
        """Start it; what it says goes to a file beside its output folder."""
        self.output = Path(str(config["output_dir"]))
        self.log = self.output.with_name(f"{self.output.name}.log")
        self._process = _processes.Process(target=_run, args=(config, str(self.log), largest_file))
        self._process.start()

    def wait(self) -> int:
        """Return its exit code; that of a signal is negative."""
        self._process.join(PATIENCE_S)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"{self.output} is not done after {PATIENCE_S} s: {self.said()[-2000:]}")
        return self._process.exitcode

    def said(self) -> str:
        """Return what it has said."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def kill_at(self, step: int, delay_s: float) -> bool:
        """Kill it so long after it has logged a step, and return whether it was still running."""
        end = time.monotonic() + PATIENCE_S
        while self.steps() < step and self._process.is_alive() and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(delay_s)
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def steps(self) -> int:
        """Return how many steps this training, or one before it in the folder, has logged."""
        path = self.output / LOG
        return path.read_bytes().count(b"\n") if path.is_file() else 0


def train(config: dict[str, object], largest_file: int | None = None) -> tuple[int, str]:
    """Train to the end; return the exit code and all that was said."""
    training = Training(config, largest_file)
    return training.wait(), training.said()


def killed_until_done(config: dict[str, object], draw: random.Random, kills: int) -> int:
    """Kill a training at drawn moments, go on with the same config each time, at last to the end.

    Returns:
        How often it was killed while it ran.
    """
    steps, done = int(str(config["max_steps"])), 0
    for _ in range(kills):
        training = Training(config)
        step = draw.randint(0, steps)
        # Before the first step: while the packages, the model, the pairs and the reference are read.
        done += training.kill_at(training.steps() + step, draw.uniform(0, 0.05 if step else 2))
    code, said = train(config)
    assert code == 0, said[-3000:]
    return done


def weights(output: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a model or an adapter."""
    (file,) = output.glob("*model.safetensors")
    return load_file(file)


def same_weights(one: Path, other: Path) -> bool:
    """Return whether two trainings have ended with the same bits."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Put a disk of so many bytes at a folder.

    Raises:
        PermissionError: if this user may not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("a disk can be mounted by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def make_larger(folder: Path, size: int) -> None:
    """Give the disk at a folder so many bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)
