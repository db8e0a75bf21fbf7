"""Compare a training step of ours with the host's, with peers', and with what a plain language model takes.

Every contender runs in a process of its own (training_worker.py) on the same pairs, masks and weights; losses and
gradients must agree before anything is timed. Steps go round in turn, so that what else the machine does meets all
alike; a ratio is the median over the rounds. The limit is a plain causal language model's step over as many distinct
tokens, with logits at as many positions as are scored.

    python benchmarks/training.py --history 900 --segment 220 --pairs 2 --vocabulary 8192 --layers 7

A peer needs an environment of its own, .venv-trl or .venv-swift in the checkout:

    uv venv .venv-trl && uv pip install --python .venv-trl/bin/python trl
    uv venv .venv-swift && uv pip install --python .venv-swift/bin/python ms-swift
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from training_data import growth_of_preparation


ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("training_worker.py")
TOLERANCE = {"cpu": 1e-4, "cuda": 5e-2}
"""How far losses and gradients may lie apart, relative: in float32 on a CPU, in bf16 on a GPU."""

MEMORY_VOCABULARY = 32768
"""Peak memory is compared with at least this vocabulary, since logits are what it is about."""

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 rates of GPUs, as their maker states them."""

PEERS = {"trl": "trl", "swift": "ms-swift"}
"""Contenders from other projects, and their distributions."""

Answer = dict[str, float]


class Worker:
    """A contender's process."""

    def __init__(self, name: str, python: str, sizes: dict[str, int]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "LLAMAFACTORY_VERBOSITY": "ERROR"}
        self._process = subprocess.Popen(
            [python, str(WORKER), name, json.dumps(sizes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=env,
        )  # fmt: skip
        self.about: dict[str, Any] = self._answer()

    def ask(self, command: str) -> Answer:
        """Have one thing done."""
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Answer:
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended with: {self._log.read()[-2000:]}")
        return json.loads(line)


def time_steps(
    names: dict[str, str], sizes: dict[str, int], rounds: int
) -> tuple[dict[str, list[Answer]], dict[str, Any]]:
    """Let every contender take a warm-up step and then `rounds` steps.

    Args:
        names: the contenders, and the Python of each.
        sizes: of model and pairs.
        rounds: how many steps are timed.
    """
    workers = [Worker(name, python, sizes) for name, python in names.items()]
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    try:
        check_agreement({worker.name: worker.ask("step") for worker in workers}, workers[0].about["device"])
        for _ in range(rounds):
            for worker in workers:
                answers[worker.name].append(worker.ask("step"))
    finally:
        for worker in workers:
            worker.close()
    return answers, workers[0].about


def check_agreement(steps: dict[str, Answer], device: str) -> None:
    """Stop if a contender computes something else than the host."""
    for name, step in steps.items():
        for what in ("loss", "gradient"):
            difference = abs(step[what] - steps["host"][what]) / abs(steps["host"][what])
            if name != "limit" and difference > TOLERANCE[device]:
                raise SystemExit(
                    f"{name}: {what} {step[what]} is not the host's {steps['host'][what]}; nothing is timed"
                )
    print(f"losses and gradients agree: {', '.join(name for name in steps if name != 'limit')}")


def ratio(steps: dict[str, list[Answer]], slow: str, fast: str, clock: str = "seconds") -> float:
    """How many times as long one contender takes as another, the median over the rounds."""
    return statistics.median(one[clock] / other[clock] for one, other in zip(steps[slow], steps[fast], strict=True))


def once(name: str, sizes: dict[str, int], *commands: str) -> Answer:
    """Have a contender do something in a fresh process; return what the last command answers."""
    worker = Worker(name, sys.executable, sizes)
    try:
        return [worker.ask(command) for command in commands][-1]
    finally:
        worker.close()


def gpu_figures(steps: list[Answer], sizes: dict[str, int], about: dict[str, Any]) -> dict[str, float]:
    """Tokens a second and the share of the GPU's peak rate: 6 operations a weight and token, attention not counted."""
    tokens = sizes["pairs"] * (sizes["history"] + 2 * sizes["segment"])
    rate = tokens / statistics.median(step["seconds"] for step in steps)
    figures = {"distinct_tokens_per_s": rate}
    for name, flops in PEAK_FLOPS.items():
        if name in about["gpu"]:
            figures["share_of_peak"] = 6 * about["parameters"] * rate / flops
    return figures


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    sizes = {name: getattr(options, name) for name in SIZES}
    python = dict.fromkeys(("host", "ours", "limit"), sys.executable)
    left_out = []
    for peer, distribution in PEERS.items():
        found = ROOT / f".venv-{peer}" / "bin" / "python"
        if not found.exists():
            left_out.append(f"{distribution} not run: there is no {found.relative_to(ROOT)} (see --help)")
        elif peer == "trl" and options.turns > 1:
            left_out.append("trl not run: it also scores what the partner says; compare with --turns 1")
        else:
            python[peer] = str(found)
    steps, about = time_steps(python, sizes, options.rounds)
    figures: dict[str, Any] = {
        "step_vs_host": ratio(steps, "host", "ours"),
        "step_vs_limit": ratio(steps, "ours", "limit"),
    }
    peers = {peer: ratio(steps, peer, "ours") for peer in PEERS if peer in steps}
    if peers:
        figures["step_vs_peer"] = min(peers.values())
        figures["step_vs_each_peer"] = peers
    figures["step_s"] = {name: statistics.median(step["seconds"] for step in taken) for name, taken in steps.items()}
    figures["cpu_ratios"] = {
        "step_vs_host": ratio(steps, "host", "ours", "cpu_s"),
        "step_vs_limit": ratio(steps, "ours", "limit", "cpu_s"),
        **{f"step_vs_{peer}": ratio(steps, peer, "ours", "cpu_s") for peer in peers},
    }
    if about["device"] == "cuda":
        figures["gpu"] = gpu_figures(steps["ours"], sizes, about)
    large = {**sizes, "vocabulary": max(MEMORY_VOCABULARY, options.vocabulary)}
    peaks = {name: once(name, large, "step", "memory")["bytes"] for name in ("host", "ours")}
    figures["memory_vs_host"] = peaks["ours"] / peaks["host"]
    figures["memory_mb"] = {name: peak / 2**20 for name, peak in peaks.items()}
    if options.run_pairs:
        runs = {name: once(name, sizes, "run")["seconds"] for name in ("host", "ours")}
        figures["run_vs_host"] = runs["host"] / runs["ours"]
        figures["run_s"] = runs
    else:
        left_out.append("run_vs_host not measured: --run-pairs 0")
    figures["step_cpu_s_by_pairs"] = {
        pairs: once("ours", {**sizes, "pairs": pairs}, "step", "step")["cpu_s"] for pairs in options.grow_pairs
    }
    figures["preparation"] = growth_of_preparation(options.prepare)
    return {**figures, "sizes": sizes, "left_out": left_out, "machine": machine(python)}


def machine(python: dict[str, str]) -> dict[str, str]:
    """What it was measured on and with."""
    versions = {name: metadata.version(name) for name in ("llamafactory", "torch", "transformers")}
    for peer in PEERS.keys() & python.keys():
        command = [python[peer], "-c", f"from importlib.metadata import version; print(version('{PEERS[peer]}'))"]
        versions[PEERS[peer]] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return {"machine": platform.machine(), "cores": str(os.cpu_count()), "threads": threads, **versions}


def table(figures: dict[str, Any]) -> str:
    """Write the figures, and what each was meant to reach."""
    goals = {
        "step_vs_host": "at least 3.2",
        "step_vs_peer": "at least 2.3",
        "run_vs_host": "at least 2.7",
        "memory_vs_host": "at most 0.5",
        "step_vs_limit": "at most 1.10",
    }
    lines = [f"{'':18}{'measured':>10}   goal"]
    lines += [f"{name:18}{figures[name]:10.2f}   {goal}" for name, goal in goals.items() if name in figures]
    lines += [f"{peer}: {value:.2f}" for peer, value in figures.get("step_vs_each_peer", {}).items()]
    lines += [f"by CPU time: {', '.join(f'{name} {value:.2f}' for name, value in figures['cpu_ratios'].items())}"]
    lines += [f"seconds a step: {', '.join(f'{name} {value:.2f}' for name, value in figures['step_s'].items())}"]
    lines += [f"peak MB of a step: {', '.join(f'{name} {value:.0f}' for name, value in figures['memory_mb'].items())}"]
    lines += [f"on the GPU: {name} {value:.3g}" for name, value in figures.get("gpu", {}).items()]
    lines += [f"{pairs} pairs a step: {s:.2f} s of CPU time" for pairs, s in figures["step_cpu_s_by_pairs"].items()]
    lines += [
        f"preparing {pairs} pairs: {took['seconds']:.1f} s, {took['peak_mb']:.0f} MB at most"
        for pairs, took in figures["preparation"].items()
    ]
    return "\n".join([*lines, *figures["left_out"]])


SIZES = {
    "history": (900, "tokens that the sides of a pair share"),
    "segment": (220, "tokens of each side"),
    "turns": (1, "agent turns of a segment; between them the partner speaks, who is not scored"),
    "pairs": (2, "pairs a step"),
    "run_pairs": (32, "pairs of the whole run of two epochs; 0 leaves it out"),
    "vocabulary": (8192, "of the model"),
    "layers": (7, "of the model"),
    "hidden": (256, "width of the model"),
    "intermediate": (768, "width of its MLP"),
    "heads": (4, "of its attention"),
    "kv_heads": (4, "key heads"),
}


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, meaning) in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--rounds", type=int, default=7, help="steps timed of each (7)")
    parser.add_argument("--grow-pairs", type=int, nargs="*", default=[1, 2, 4, 8], help="sizes of growing steps")
    parser.add_argument("--prepare", type=int, nargs="*", default=[1000, 10000], help="numbers of pairs to prepare")
    parser.add_argument("--json", default=str(ROOT / "benchmarks" / "training.json"), help="where figures are written")
    options = parser.parse_args()
    figures = measure(options)
    print(table(figures))
    Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
