"""Compare the speed of our sampling with upstream's loop and with what the server's latency allows.

Starts the scripted server with exponential latencies, runs the same demo scenarios through sotopia_sdpo and through
sotopia 0.1.5's own batches, and prints a table of ratios. The bound is the sum of all latencies that the server drew
for our episodes, divided by the batch size: no client can be faster than that.

    python benchmarks/sampling.py --episodes 200 --batch-size 10 --latency-ms 50
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.make.servers import scripted_server
from sotopia_sdpo.play import stage as host
from sotopia_sdpo.play.dialogue import load_template
from sotopia_sdpo.run.execute import sample_all
from sotopia_sdpo.run.plan import Run, items_of_combos
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.cast import demo_splits, require_world
from sotopia_sdpo.world.combos import Combo, choose
from sotopia_sdpo.world.tasks import Task


AGENT, EVALUATOR = "agent", "judge"
ALL_STAGES = Task("all", ("SFT-round-1", "dev-round-1", "selftrain-round-2", "selftrain-round-3", "selftrain-round-4"))
TAG = "speed"
CHILD = "--upstream-child"
SECONDS = "seconds: "


class Timing(NamedTuple):
    """What one way of sampling took."""

    name: str
    episodes: int
    seconds: float
    calls: int
    latency_s: float

    @property
    def rate(self) -> float:
        """Episodes a second."""
        return self.episodes / self.seconds


def stats(url: str) -> dict[str, Any]:
    """Ask the server for its counters."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as response:
        return json.load(response)


def time_ours(store: Store, url: str, combos: Sequence[Combo], trials: int, count: int, batch_size: int) -> Timing:
    """Sample and evaluate `count` episodes with our runner."""
    agent, judge = (parse_model(f"custom/{name}@{url}/") for name in (AGENT, EVALUATOR))
    run = Run(agent, agent, judge, ALL_STAGES, load_template(), trials=trials, tag=TAG)
    items = items_of_combos(run, combos)[:count]
    before, started = stats(url), time.perf_counter()
    outcome = sample_all(store, items, Limits(batch_size))
    seconds, after = time.perf_counter() - started, stats(url)
    assert outcome.is_complete, "the scripted server has no faults here, so every episode is scored"
    calls, latency_s = (after[name] - before.get(name, 0) for name in ("requests", "latency_s"))
    return Timing("sotopia_sdpo", count, seconds, calls, latency_s)


def time_upstream(store: Store, url: str, combos: Sequence[Combo], count: int, batch_size: int) -> Timing:
    """Sample and evaluate `count` episodes with upstream's loop, in a process in which upstream is as it comes.

    Its storage is its own local one, in a temporary home; its log goes to a file.
    """
    work = {
        "url": url,
        "batch_size": batch_size,
        "environments": list(store.profiles("environments")),
        "agents": list(store.profiles("agents")),
        "combos": [combos[i % len(combos)] for i in range(count)],
    }
    with tempfile.TemporaryDirectory() as home, open(Path(home) / "upstream.log", "w") as log:
        env = {**os.environ, "HOME": home, "SOTOPIA_STORAGE_BACKEND": "local", host.LOCAL_PRICES: "True"}
        before = stats(url)
        command = [sys.executable, __file__, CHILD]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.PIPE, text=True, env=env, cwd=home
        ) as child:
            _, err = child.communicate(json.dumps(work))
        after = stats(url)
    told = [line.removeprefix(SECONDS) for line in err.splitlines() if line.startswith(SECONDS)]
    if not told:
        raise RuntimeError(f"upstream's loop ended with: {err[-2000:]}")
    calls, latency_s = (after[name] - before[name] for name in ("requests", "latency_s"))
    return Timing("sotopia 0.1.5", count, float(told[0]), calls, latency_s)


def upstream_child() -> None:
    """Run upstream's loop on what stdin describes, and tell on stderr how long it took."""
    from sotopia.agents import LLMAgent
    from sotopia.cli.benchmark.benchmark import run_async_benchmark_in_batch
    from sotopia.database import AgentProfile, EnvironmentProfile, SotopiaDimensions
    from sotopia.envs.evaluators import EpisodeLLMEvaluator, EvaluationForAgents, RuleBasedTerminatedEvaluator
    from sotopia.envs.parallel import ParallelSotopiaEnv

    work = json.load(sys.stdin)
    scenarios = {profile["pk"]: EnvironmentProfile(**profile) for profile in work["environments"]}
    people = {profile["pk"]: AgentProfile(**profile) for profile in work["agents"]}
    agent, judge = (f"custom/{name}@{work['url']}/" for name in (AGENT, EVALUATOR))
    pairs = []
    for environment, pks in work["combos"]:
        env = ParallelSotopiaEnv(
            env_profile=scenarios[environment],
            action_order="round-robin",
            model_name=judge,
            evaluators=[RuleBasedTerminatedEvaluator(max_turn_number=20, max_stale_turn=2)],
            terminal_evaluators=[EpisodeLLMEvaluator(judge, EvaluationForAgents[SotopiaDimensions])],
        )
        pairs.append((env, [LLMAgent(agent_profile=people[pk], model_name=agent) for pk in pks]))
    asyncio.set_event_loop(asyncio.new_event_loop())
    started = time.perf_counter()
    run_async_benchmark_in_batch(env_agent_combo_list=pairs, batch_size=work["batch_size"], tag=TAG, push_to_db=True)
    print(f"{SECONDS}{time.perf_counter() - started}", file=sys.stderr)


def table(ours: Timing, upstream: Timing | None, batch_size: int) -> str:
    """Write the timings and their ratios."""
    bound_s = ours.latency_s / batch_size
    rows = [f"{'':16}{'episodes':>9}{'calls':>8}{'seconds':>9}{'episodes/s':>12}{'of the bound':>14}"]
    for timing in filter(None, (ours, upstream)):
        share = timing.latency_s / batch_size / timing.seconds
        rows.append(
            f"{timing.name:16}{timing.episodes:9d}{timing.calls:8d}{timing.seconds:9.1f}{timing.rate:12.2f}{share:14.0%}"
        )
    rows.append(f"bound for ours: {ours.latency_s:.1f} s of latency / {batch_size} in flight = {bound_s:.1f} s")
    if upstream is not None:
        rows.append(f"ours is {ours.rate / upstream.rate:.1f} times as fast as sotopia 0.1.5, by episodes a second")
    return "\n".join(rows)


def main() -> None:
    """Run both and print the table."""
    if sys.argv[1:] == [CHILD]:
        upstream_child()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200, help="episodes of ours (default: 200)")
    parser.add_argument(
        "--upstream-episodes", type=int, help="episodes of upstream's; 0 leaves it out (default: same)"
    )
    parser.add_argument("--batch-size", type=int, default=10, help="episodes in flight (default: 10)")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="mean latency of an answer (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the server (default: 0)")
    options = parser.parse_args()
    os.environ.setdefault("CUSTOM_API_KEY", "EMPTY")
    host.load()
    settings = ("--latency-ms", str(options.latency_ms), "--seed", str(options.seed))
    count = options.episodes
    other = count if options.upstream_episodes is None else options.upstream_episodes
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"sqlite:///{Path(folder) / 'speed.db'}") as store,
        scripted_server(Path(folder) / "server.log", "--exponential", *settings) as url,
    ):
        require_world(store, is_demo=True)
        combos = choose(store, ALL_STAGES, demo_splits(), None, 0).combos
        ours = time_ours(store, url, combos, -(-count // len(combos)), count, options.batch_size)
        upstream = time_upstream(store, url, combos, other, options.batch_size) if other else None
    print(table(ours, upstream, options.batch_size))


if __name__ == "__main__":
    main()
