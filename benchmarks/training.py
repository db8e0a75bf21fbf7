"""Compare a training step of ours with the host's, with peers', and with what a plain language model takes.

Every contender runs in a process of its own (training_worker.py) on the same pairs, masks and weights; losses and
gradients must agree before anything is timed. Steps go round in turn, so that what else the machine does meets all
alike; a ratio is the median over the rounds. The limit is a plain causal language model's step over as many distinct
tokens, with logits at as many positions as are scored.

    python benchmarks/training.py --history 900 --segment 220 --pairs 2 --vocabulary 8192 --layers 7

A peer needs an environment of its own, .venv-trl or .venv-swift in the checkout:

    uv venv .venv-trl && uv pip install --python .venv-trl/bin/python trl peft
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
from typing import Any, NamedTuple

from training_data import growth_of_preparation


ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("training_worker.py")
TOLERANCE = {"cpu": 1e-4, "cuda": 5e-2}
"""How far losses and norms of gradients may lie apart, relative: in float32 on a CPU, in bf16 on a GPU."""

MEMORY_VOCABULARY = 32768
"""Peak memory is compared with at least this vocabulary, since logits are what it is about."""

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 rates of GPUs, as their maker states them."""

OWN = ("host", "ours", "limit")
"""Contenders that run in this environment."""

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


class Timed(NamedTuple):
    """The steps of all contenders.

    Attributes:
        steps: of each contender, in order.
        memory: what a step of each takes at most, in bytes.
        about: what the workers say of model and machine.
        left_out: which peers were not timed, and why.
    """

    steps: dict[str, list[Answer]]
    memory: dict[str, float]
    about: dict[str, Any]
    left_out: list[str]


def time_steps(names: dict[str, str], sizes: dict[str, int], rounds: int, alone: bool) -> Timed:
    """Let every contender take a warm-up step and then `rounds` steps.

    Args:
        names: the contenders, and the Python of each.
        sizes: of model and pairs.
        rounds: how many steps are timed.
        alone: one contender after the other, for models that do not fit beside each other.
    """
    timed = Timed({}, {}, {}, [])
    right: Answer | None = None
    for group in [[name] for name in names] if alone else [list(names)]:
        workers = [Worker(name, names[name], sizes) for name in group]
        try:
            timed.about.update(workers[0].about)
            taking_part = []
            for worker in workers:
                first = worker.ask("step")
                wrong = None
                if worker.name != "limit":
                    right = right or first
                    wrong = disagreement(first, right, timed.about["device"])
                if wrong and worker.name in PEERS:
                    timed.left_out.append(f"{PEERS[worker.name]} not timed: {wrong}")
                elif wrong:
                    raise SystemExit(f"{worker.name}: {wrong}; nothing is timed")
                else:
                    taking_part.append(worker)
            timed.steps.update({worker.name: [] for worker in taking_part})
            for _ in range(rounds):
                for worker in taking_part:
                    timed.steps[worker.name].append(worker.ask("step"))
            timed.memory.update({worker.name: worker.ask("memory")["bytes"] for worker in taking_part})
        finally:
            for worker in workers:
                worker.close()
    print(f"losses and gradients agree: {', '.join(name for name in timed.steps if name != 'limit')}")
    return timed


def disagreement(step: Answer, right: Answer, device: str) -> str | None:
    """Say how a contender's step differs from the first one's, which is the host's if that takes part."""
    for what in ("loss", "gradient"):
        if abs(step[what] - right[what]) > TOLERANCE[device] * abs(right[what]):
            return f"its {what} is {step[what]:.6g}, not {right[what]:.6g}"
    return None


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


def gpu_figures(steps: dict[str, list[Answer]], sizes: dict[str, int], about: dict[str, Any]) -> dict[str, Any]:
    """Of every contender the distinct tokens it trains on a second, and the share of the GPU's peak rate."""
    tokens = sizes["pairs"] * (sizes["history"] + 2 * sizes["segment"])
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in about["gpu"]), None)
    figures: dict[str, Any] = {"name": about["gpu"], "distinct_tokens_per_s": {}, "share_of_peak": {}}
    for name, taken in steps.items():
        seconds = statistics.median(step["seconds"] for step in taken)
        figures["distinct_tokens_per_s"][name] = tokens / seconds
        if peak:
            figures["share_of_peak"][name] = about["operations"] / seconds / peak
    return figures


def contenders(options: argparse.Namespace) -> tuple[dict[str, str], list[str]]:
    """Who takes part, with the Python of each; and who does not, and why."""
    python = dict.fromkeys((name for name in OWN if name in options.contenders), sys.executable)
    left_out = [f"{name} not run: not among --contenders" for name in OWN if name not in python]
    for peer, distribution in PEERS.items():
        found = ROOT / f".venv-{peer}" / "bin" / "python"
        if peer not in options.contenders:
            left_out.append(f"{distribution} not run: not among --contenders")
        elif not found.exists():
            left_out.append(f"{distribution} not run: there is no {found.relative_to(ROOT)} (see --help)")
        elif peer == "trl" and options.turns > 1:
            left_out.append("trl not run: it also scores what the partner says; compare with --turns 1")
        else:
            python[peer] = str(found)
    return python, left_out


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    sizes = {name: getattr(options, name) for name in SIZES}
    python, left_out = contenders(options)
    timed = time_steps(python, sizes, options.rounds, options.alone)
    left_out += timed.left_out
    pairs_of = {"step_vs_host": ("host", "ours"), "step_vs_limit": ("ours", "limit")}
    pairs_of |= {f"step_vs_{peer}": (peer, "ours") for peer in PEERS}
    pairs_of = {name: both for name, both in pairs_of.items() if set(both) <= timed.steps.keys()}
    figures: dict[str, Any] = {name: ratio(timed.steps, *both) for name, both in pairs_of.items()}
    peers = [figures[f"step_vs_{peer}"] for peer in PEERS if f"step_vs_{peer}" in figures]
    if peers:
        figures["step_vs_peer"] = min(peers)
    figures["step_s"] = {
        name: statistics.median(step["seconds"] for step in taken) for name, taken in timed.steps.items()
    }
    figures["cpu_ratios"] = {name: ratio(timed.steps, *both, "cpu_s") for name, both in pairs_of.items()}
    if timed.about["device"] == "cuda":
        figures["gpu"] = gpu_figures(timed.steps, sizes, timed.about)
    peaks = timed.memory
    if options.vocabulary < MEMORY_VOCABULARY:
        large = {**sizes, "vocabulary": MEMORY_VOCABULARY}
        peaks = {name: once(name, large, "step", "memory")["bytes"] for name in ("host", "ours") if name in python}
    if {"host", "ours"} <= peaks.keys():
        figures["memory_vs_host"] = peaks["ours"] / peaks["host"]
    figures["memory_mb"] = {name: peak / 2**20 for name, peak in peaks.items()}
    if options.run_pairs and {"host", "ours"} <= python.keys():
        runs = {name: once(name, sizes, "run")["seconds"] for name in ("host", "ours")}
        figures["run_vs_host"] = runs["host"] / runs["ours"]
        figures["run_s"] = runs
    else:
        left_out.append("run_vs_host not measured: no --run-pairs, or without host or ours")
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
    lines += [f"{name:18}{figures[name]:10.2f}" for name in (f"step_vs_{peer}" for peer in PEERS) if name in figures]
    lines += [f"by CPU time: {listed(figures['cpu_ratios'], '.2f')}"]
    lines += [f"seconds a step: {listed(figures['step_s'], '.3f')}"]
    lines += [f"peak MB of a step: {listed(figures['memory_mb'], '.0f')}"]
    if "run_s" in figures:
        lines += [f"seconds a run: {listed(figures['run_s'], '.1f')}"]
    if "gpu" in figures:
        gpu = figures["gpu"]
        lines += [f"on {gpu['name']}: distinct tokens a second: {listed(gpu['distinct_tokens_per_s'], ',.0f')}"]
        lines += [f"share of its peak rate: {listed(gpu['share_of_peak'], '.1%')}"]
    lines += [f"{pairs} pairs a step: {s:.2f} s of CPU time" for pairs, s in figures["step_cpu_s_by_pairs"].items()]
    lines += [
        f"preparing {pairs} pairs: {took['seconds']:.1f} s, {took['peak_mb']:.0f} MB at most"
        for pairs, took in figures["preparation"].items()
    ]
    return "\n".join([*lines, *figures["left_out"]])


def listed(values: dict[str, float], form: str) -> str:
    """Write named values in a line."""
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


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
    "lora": (0, "rank of an adapter on every linear layer; the rest is then fixed; 0 trains everything"),
    "checkpointing": (0, "1: with gradient checkpointing, as the host has it unless told otherwise"),
}


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, meaning) in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--rounds", type=int, default=7, help="steps timed of each (7)")
    parser.add_argument("--contenders", nargs="+", default=[*OWN, *PEERS], help="who takes part (all)")
    parser.add_argument("--alone", action="store_true", help="one contender after the other, for large models")
    parser.add_argument("--grow-pairs", type=int, nargs="*", default=[1, 2, 4, 8], help="sizes of growing steps")
    parser.add_argument("--prepare", type=int, nargs="*", default=[1000, 10000], help="numbers of pairs to prepare")
    parser.add_argument("--json", default=str(ROOT / "benchmarks" / "training.json"), help="where figures are written")
    options = parser.parse_args()
    figures = measure(options)
    print(table(figures))
    Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
