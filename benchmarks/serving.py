"""Compare the two engines of `bash inference.sh` by the episodes that sotopia samples from them in a second.

Serves one model with vLLM and then with the host's own engine, samples the same episodes of the demo world from it at
several batch sizes, judged by the scripted server, and prints a table: episodes a second, what the prefix cache knew
of the prompts (vLLM counts it), and the time to the first token of a request that is alone.

    python benchmarks/serving.py --model LLaMA-Factory/saves/demo/sft --episodes 40
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from llamafactory_sdpo.serving import probe, stats
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.make.servers import Server, free_ports, scripted_server
from sotopia_sdpo.play import stage as host
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.run.execute import sample_all
from sotopia_sdpo.run.plan import Run, items_of_combos
from sotopia_sdpo.store import open_store
from sotopia_sdpo.world.cast import demo_splits, require_world
from sotopia_sdpo.world.combos import choose
from sotopia_sdpo.world.tasks import Task


ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("vllm", "huggingface")
CONFIG = ROOT / "LLaMA-Factory" / "examples" / "inference" / "demo_vllm.yaml"
NAME = "agent"
ALL_STAGES = Task("all", ("SFT-round-1", "dev-round-1", "selftrain-round-2", "selftrain-round-3", "selftrain-round-4"))
BATCH_SIZES = (1, 10, 50)
ALONE = 10
"""Requests for the time to the first token."""
READY = "Ctrl-C"


class Timing(NamedTuple):
    """What one engine did at one batch size."""

    engine: str
    batch_size: int
    episodes: int
    failed: int
    answers: int
    seconds: float
    hit_rate: float | None
    first_token_s: float

    @property
    def rate(self) -> float:
        """Episodes a second."""
        return self.episodes / self.seconds


@contextlib.contextmanager
def served(engine: str, model: Path) -> Iterator[str]:
    """Serve the model with `bash inference.sh`, and give the address."""
    (port,) = free_ports()
    command = ["bash", str(ROOT / "inference.sh"), str(CONFIG), f"infer_backend={engine}", f"port={port}"]
    command += [f"model_name_or_path={model.resolve()}", f"served_model_name={NAME}"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        # Its last line: what comes before it, such as the comparison of prompts, would be timed too.
        with Server(command, log=log, ready=lambda: READY in log.read_text("utf-8")):
            yield f"http://127.0.0.1:{port}"


def first_token_s(url: str) -> float:
    """Time the first token of streamed answers to fresh prompts, one request after the other; the median."""
    seconds = []
    for number in range(ALONE):
        prompt = {"role": "user", "content": f"You are number {number}. {' '.join([probe.TURNS[0]] * 10)}"}
        body = {"model": NAME, "messages": [prompt], "stream": True, "max_tokens": 8}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        started = time.perf_counter()
        with urllib.request.urlopen(request) as response:
            for line in response:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    seconds.append(time.perf_counter() - started)
                    break
    return median(seconds)


def sampled(engine: str, url: str, judge: str, episodes: int, batch_size: int) -> Timing:
    """Sample episodes as `sotopia benchmark` does, in a new database."""
    agent, evaluator = parse_model(f"custom/{NAME}@{url}/v1/"), parse_model(f"custom/judge@{judge}/")
    with tempfile.TemporaryDirectory() as folder, open_store(f"sqlite:///{Path(folder) / 'speed.db'}") as store:
        require_world(store, is_demo=True)
        combos = choose(store, ALL_STAGES, demo_splits(), None, 0).combos
        run = Run(
            agent, agent, evaluator, ALL_STAGES, load_template(), trials=-(-episodes // len(combos)), tag="speed"
        )
        items = items_of_combos(run, combos)[:episodes]
        before = stats.read(url) if engine == "vllm" else None
        started = time.perf_counter()
        outcome = sample_all(store, items, Limits(batch_size))
        seconds = time.perf_counter() - started
        rate = stats.read(url).since(before).hit_rate if before else None
        answers = sum(_answers(episode.usage) for episode in store.episodes())
    return Timing(engine, batch_size, outcome.total, outcome.failed, answers, seconds, rate, 0.0)


def _answers(usage: dict[str, Any]) -> int:
    return sum(usage.get(f"agent_{position}", {}).get("calls", 0) for position in (0, 1))


def table(timings: list[Timing]) -> str:
    """Write the timings in Markdown; the ratio is that of vLLM to the host's engine by episodes a second."""
    rates = {(timing.engine, timing.batch_size): timing.rate for timing in timings}
    rows = [
        "| engine | batch | episodes (failed) | answers | episodes/s | ratio | prefix cache | first token, alone |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for timing in timings:
        other = rates.get((ENGINES[1], timing.batch_size))
        ratio = f"{timing.rate / other:.1f}" if other else "?"
        hits = "-" if timing.hit_rate is None else f"{timing.hit_rate:.0%}"
        rows.append(
            f"| {timing.engine} | {timing.batch_size} | {timing.episodes} ({timing.failed}) | {timing.answers} "
            f"| {timing.rate:.2f} | {ratio} | {hits} | {timing.first_token_s * 1000:.0f} ms |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run both engines and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "LLaMA-Factory" / "saves" / "demo" / "sft")
    parser.add_argument("--episodes", type=int, default=40, help="at each batch size (default: 40)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, help="(default: 1 10 50)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    options = parser.parse_args()
    os.environ.setdefault("CUSTOM_API_KEY", "EMPTY")
    host.load()
    timings = []
    with tempfile.TemporaryDirectory() as folder, scripted_server(Path(folder) / "judge.log") as judge:
        for engine in options.engines:
            with served(engine, options.model) as url:
                alone = first_token_s(url)
                for batch_size in options.batch_sizes:
                    timing = sampled(engine, url, judge, options.episodes, batch_size)
                    timings.append(timing._replace(first_token_s=alone))
    print(table(timings))


if __name__ == "__main__":
    main()
