"""The Redis that processes sample into goes away and comes back."""

import signal
import time

from .trial import Redis, Row, Trial
from .workers import run_sampling


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
