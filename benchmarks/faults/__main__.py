"""Sample, annotate and store while processes and servers are killed, stopped and cut off, and count what goes wrong.

Each fault happens at random moments to processes that work together; then what is stored is counted: lost is what
is not there at the end, doubled what is there, or was paid for, twice, wrong what is not whole, and a process that did
not end well. Everything runs on this machine against scripted models. The real combos are played where the published
profiles are in ../shared/data/sotopia, else the demo world's.

    python benchmarks/faults                          # at least 1,000 faults, at most 20 minutes on two cores
    python benchmarks/faults --episodes 40 --processes 3 --gone 5 --only redis-killed

Exit codes: 0 nothing was lost, doubled or wrong; 1 something was; 2 a wrong option.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from faults import annotators, chains, crowds, models, redis_gone, workers  # noqa: E402 (where they lie is said just above)
from faults.trial import KILLED, LONGEST_S, PUBLISHED, Row, Trial  # noqa: E402


def crowd(run: Callable[..., Row], fault: str, *how: object) -> Callable[[Trial], Row]:
    """Return what tries a fault on a crowd."""
    return lambda trial: run(fault, trial, *how)


FAULTS: dict[str, tuple[Callable[[Trial], Row], float]] = {
    "workers-killed": (workers.workers_killed, 1),
    "workers-stopped": (workers.workers_stopped, 1 / 18),
    "settings-mixed": (workers.settings_mixed, 1 / 18),
    "redis-killed": (redis_gone.redis_killed, 1 / 6),
    "redis-stopped": (redis_gone.redis_stopped, 1 / 6),
    "redis-out-of-reach": (redis_gone.redis_out_of_reach, 1 / 6),
    "redis-demoted": (redis_gone.redis_demoted, 1 / 18),
    "redis-emptied": (redis_gone.redis_emptied, 1 / 18),
    "sqlite-killed": (workers.sqlite_killed, 1 / 18),
    "replica-killed": (models.replica_killed, 1 / 6),
    "bad-answers": (models.bad_answers, 1 / 18),
    "annotators-killed": (annotators.annotators_killed, 1 / 6),
    "answers-locked": (annotators.answers_locked, 1 / 18),
    "steps-killed": (chains.chains_killed, 1 / 18),
    "hosts-killed": (annotators.hosts_killed, 1 / 6),
    "claimants-killed": (crowd(crowds.on_redis, "claimants killed", "episodes", crowds.kill, 20), 1 / 12),
    "askers-killed": (crowd(crowds.on_redis, "askers killed", "answers", crowds.kill, 20), 1 / 12),
    "sqlite-killed-often": (crowd(crowds.on_sqlite, "SQLite, claimants killed", crowds.kill, 20), 1 / 18),
    "late-claimants": (
        crowd(crowds.on_redis, "late claimants", "episodes", crowds.sleep_too_long, 60),
        1 / 45,
    ),
    "late-askers": (crowd(crowds.on_redis, "late askers", "answers", crowds.sleep_too_long, 60), 1 / 45),
    "connections-closed": (crowd(crowds.on_redis, "connections closed", "episodes", crowds.close_clients, 6), 1 / 3),
    "connections-cut": (crowd(crowds.on_cut_connections, "connections cut, episodes", "episodes", 6), 1 / 3),
    "answers-cut": (crowd(crowds.on_cut_connections, "connections cut, answers", "answers", 12), 1 / 3),
    "sqlite-locked": (crowd(crowds.on_sqlite, "SQLite locked", crowds.lock_the_file, 20), 1 / 9),
}
"""By name, with the share of the episodes that it is tried on; of a fault that is cheap, how often it happens."""


def table(rows: Sequence[Row]) -> str:
    """Write the counts as a table."""
    lines = [f"{'fault':28}{'tried':>7}{'of':>7}{'lost':>7}{'doubled':>9}{'wrong':>7}{'seconds':>9}"]
    lines += [
        f"{r.fault:28}{r.tried:7d}{r.items:7d}{r.lost:7d}{r.doubled:9d}{r.wrong:7d}{r.seconds:9.0f}  {r.note}".rstrip()
        for r in rows
    ]
    return "\n".join(lines)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End this process if a block takes longer: what hangs is a fault as well."""

    def give_up() -> None:
        print(f"error: not done after {seconds:.0f} s", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def main() -> int:
    """Try the faults and print the table."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=900, help="faults take a part of them each (default: 900)")
    parser.add_argument("--processes", type=int, default=8, help="that work together, 3 or more (default: 8)")
    parser.add_argument("--gone", type=float, default=30.0, help="seconds for which Redis is away (default: 30)")
    parser.add_argument("--only", choices=FAULTS, action="append", help="try this fault; may be repeated")
    parser.add_argument("--seed", type=int, help="of the moments and the victims (default: another one each time)")
    options = parser.parse_args()
    if options.processes <= KILLED or options.episodes < 9:
        parser.error(f"expected --processes over {KILLED} and at least 9 --episodes")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    random.seed(seed)
    print(f"seed {seed}, {'real' if PUBLISHED.is_dir() else 'demo'} combos", flush=True)
    rows = []
    for name in options.only or FAULTS:
        fault, share = FAULTS[name]
        episodes = max(9, round(options.episodes * (1 if options.only else share)))
        with tempfile.TemporaryDirectory() as folder, at_most(LONGEST_S):
            rows.append(fault(Trial(Path(folder), episodes, options.processes, options.gone, episodes)))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    sums = (sum(numbers) for numbers in zip(*(row[1:7] for row in rows), strict=True))
    print(f"\n{table([*rows, Row('all', *sums)])}")
    return 0 if all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
