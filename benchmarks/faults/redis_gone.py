"""The Redis that processes sample into goes away and comes back, or another one comes back in its place."""

import signal
import time

from sotopia_sdpo.make.servers import free_ports

from .trial import LONGEST_S, Redis, Row, Trial, fill, judged, number_stored, start
from .workers import run_sampling, sampling_on_redis, wait_for_share


STOPPED_EARLY = 3


def redis_killed(trial: Trial) -> Row:
    """Redis is killed outright, and started again with its log."""

    def disturb(redis: Redis, _: object) -> list[int]:
        redis.signal(signal.SIGKILL)
        redis.end()
        time.sleep(min(5, trial.gone_s))
        redis.start()
        return []

    return run_sampling("Redis killed, restarted", 1, trial, disturb)


def redis_stopped(trial: Trial) -> Row:
    """Redis neither answers nor goes."""

    def disturb(redis: Redis, _: object) -> list[int]:
        redis.signal(signal.SIGSTOP)
        time.sleep(trial.gone_s)
        redis.signal(signal.SIGCONT)
        return []

    return run_sampling(f"Redis stopped {trial.gone_s:g} s", 1, trial, disturb)


def redis_out_of_reach(trial: Trial) -> Row:
    """Redis is ended in order, and nobody is at its address for a while."""

    def disturb(redis: Redis, _: object) -> list[int]:
        redis.end()
        time.sleep(trial.gone_s)
        redis.start()
        return []

    return run_sampling(f"Redis out of reach {trial.gone_s:g} s", 1, trial, disturb)


def redis_demoted(trial: Trial) -> Row:
    """Another server takes over for a while, so this one takes no writes."""

    def disturb(redis: Redis, _: object) -> list[int]:
        redis.client.replicaof("127.0.0.1", free_ports()[0])
        time.sleep(trial.gone_s)
        redis.client.replicaof("NO", "ONE")
        return []

    return run_sampling(f"Redis takes no writes {trial.gone_s:g} s", 1, trial, disturb)


def redis_emptied(trial: Trial) -> Row:
    """A server takes over that lacks the episodes: no process says wrongly that all is well; the next run plays them.

    One that had stored nothing before plays or waits for all, and is right to say so; so are the others then.
    """
    with sampling_on_redis(trial) as (redis, db, command, processes):
        started = time.monotonic()
        wait_for_share(trial, db)
        while not all((trial.folder / f"out-{number}").stat().st_size for number in range(len(processes))):
            time.sleep(0.1)  # one that begins would find no scenarios
        redis.client.flushall()
        fill(db)
        codes = [process.wait(LONGEST_S) for process in processes]
        stored = number_stored(db)
        again = start(trial, command).wait(LONGEST_S)
        wrong = sum(code not in (0, STOPPED_EARLY) for code in codes)
        wrong += (0 in codes and stored < trial.episodes) + (again != 0)
        if wrong:
            print(f"the processes ended with {codes}, {stored} stored; run again, it ended with {again}", flush=True)
        return judged("Redis emptied, told, run again", 1, trial, db, started, wrong)
