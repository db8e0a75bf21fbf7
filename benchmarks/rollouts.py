"""Measure how many steps a second an environment is played at, with episodes in flight against one after another.

No model is asked: the gold actions of the same quests are played, each contender on instances that are up already.
`by hand` plays them one after another as ScienceWorld's own examples do, with its reset() and step(); the others are
our rollouts, with 1, 2, 4 episodes in flight. `--latency-ms` waits before every action, as for a model's answer.
Prints steps a second with the ratio to the first contender, and the processor time of the Java processes, by which
machines that are busy otherwise can be compared too.

    python benchmarks/rollouts.py --episodes 60 --latency-ms 200
"""

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import psutil

from sotopia_sdpo.envs.pool import Pool
from sotopia_sdpo.envs.protocol import Environment, Quest
from sotopia_sdpo.envs.registry import open_environment
from sotopia_sdpo.play.rollout import Choose, roll_out
from sotopia_sdpo.play.walk import Walk
from sotopia_sdpo.run.flight import Flight
from sotopia_sdpo.run.quests import kinds_of, quests_of


class Played(NamedTuple):
    """What one contender did."""

    name: str
    steps: int
    solved: int
    seconds: float
    cpu_s: float
    """Of the processes below ours."""


def cpu_s() -> float:
    """Return the processor time of all processes below ours so far."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))


def main() -> None:
    """Prepare the quests, let every contender play them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="scienceworld")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--tasks-of", default="find-plant,find-animal,lifespan-longest-lived")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    with closing(open_environment(options.env)) as environment:
        kinds = kinds_of(environment, options.tasks_of.split(","))
        quests = quests_of(environment, kinds, "train", 0)[: options.episodes]
        gold = {quest: list(environment.gold(quest) or ()) for quest in quests}
    wait_s = options.latency_ms / 1000
    contenders = [partial(in_flight, options.env, gold, size, wait_s) for size in options.in_flight]
    if options.env == "scienceworld":
        contenders.insert(0, partial(by_hand, gold, wait_s))
    print(f"{len(gold)} episodes, {sum(map(len, gold.values()))} gold actions, {os.cpu_count()} cores")
    found = [play() for play in contenders]
    for one in found:
        rate, first = one.steps / one.seconds, found[0].steps / found[0].seconds
        cost = f"{1000 * one.cpu_s / one.steps:.0f} ms of Java a step"
        print(
            f"{one.name:14}{rate:8.1f} steps/s{rate / first:8.2f} x  {cost}, {one.solved} solved, {one.seconds:.1f} s"
        )


def by_hand(gold: dict[Quest, list[str]], wait_s: float) -> Played:
    """Play one episode after another with the package alone."""
    from scienceworld import ScienceWorldEnv

    world = ScienceWorldEnv("", envStepLimit=10**6)
    world.load("find-plant", 0, "easy")
    started, before, steps, solved = time.monotonic(), cpu_s(), 0, 0
    for quest, actions in gold.items():
        world.load(quest.kind, quest.variation, "easy")
        world.reset()
        for action in actions:
            time.sleep(wait_s)
            _, _, is_over, told = world.step(action)
            steps += 1
            if is_over:
                solved += told["score"] == 100
                break
    seconds, used = time.monotonic() - started, cpu_s() - before
    world.close()
    return Played("by hand", steps, solved, seconds, used)


def in_flight(env: str, gold: dict[Quest, list[str]], size: int, wait_s: float) -> Played:
    """Play with our rollouts, this many at a time."""
    return asyncio.run(_in_flight(partial(open_environment, env), gold, size, wait_s))


async def _in_flight(
    make: Callable[[], Environment], gold: dict[Quest, list[str]], size: int, wait_s: float
) -> Played:
    left, walks, solved = list(gold), [], 0
    with Pool(make, size) as pool:
        await _warm_up(pool, size)
        started, before = time.monotonic(), cpu_s()

        async def take() -> Quest | None:
            return left.pop(0) if left else None

        async def play(quest: Quest) -> None:
            nonlocal solved
            done = await roll_out(pool, quest, _reading(gold[quest], wait_s), len(gold[quest]))
            walks.append(done.walk)
            solved += done.outcome is not None and done.outcome.value == done.outcome.high

        await Flight(size).run(take, play)
        seconds, used = time.monotonic() - started, cpu_s() - before
    return Played(f"{size} in flight", sum(len(walk.actions) for walk in walks), solved, seconds, used)


async def _warm_up(pool: Pool, size: int) -> None:
    """Have all instances made."""
    ready = asyncio.Barrier(size)

    async def one() -> None:
        async with pool.borrowed():
            await ready.wait()

    await asyncio.gather(*(one() for _ in range(size)))


def _reading(actions: Sequence[str], wait_s: float) -> Choose:
    async def choose(walk: Walk) -> str:
        await asyncio.sleep(wait_s)
        return actions[len(walk.actions)]

    return choose


if __name__ == "__main__":
    main()
