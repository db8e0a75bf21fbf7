"""The limits of a run's calls, and their defaults for all commands."""

from typing import NamedTuple


EPISODES_IN_FLIGHT = 10
QUESTIONS_IN_FLIGHT = 15
ATTEMPTS = 8
TIMEOUT_S = 180.0
SECONDS_PER_MINUTE = 60


class Limits(NamedTuple):
    """Concurrency, retries, timeout and rate."""

    concurrency: int = EPISODES_IN_FLIGHT
    """Episodes, or questions, in flight at any time."""
    attempts: int = ATTEMPTS
    """Attempts of one call before it has failed."""
    timeout_s: float = TIMEOUT_S
    """Seconds until one attempt is given up."""
    requests_per_minute: int | None = None
    """To each model, by this process, every attempt counted; None: no limit."""

    @property
    def spacing_s(self) -> float:
        """Seconds between two requests to one model."""
        return SECONDS_PER_MINUTE / self.requests_per_minute if self.requests_per_minute else 0.0


DEFAULTS = Limits()
