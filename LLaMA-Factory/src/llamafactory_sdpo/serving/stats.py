"""Read a vLLM server's counters: its prefix cache's hits and the time to the first token."""

import re
from typing import NamedTuple

from ..errors import UserError, one_line
from .asking import FAILURES, open_url


COUNTERS = {
    "prompt_tokens": "vllm:prefix_cache_queries_total",
    "cached_tokens": "vllm:prefix_cache_hits_total",
    "first_tokens": "vllm:time_to_first_token_seconds_count",
    "first_token_s": "vllm:time_to_first_token_seconds_sum",
    "written_tokens": "vllm:generation_tokens_total",
}
TIMEOUT_S = 30


class Stats(NamedTuple):
    """Sums over all answers."""

    prompt_tokens: float
    cached_tokens: float
    first_tokens: float
    first_token_s: float
    written_tokens: float

    def since(self, before: "Stats") -> "Stats":
        """Return what was added after an earlier reading."""
        return Stats(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def hit_rate(self) -> float:
        """Share of the prompts' tokens that were in the cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def mean_first_token_s(self) -> float:
        """Mean time from request to first token."""
        return self.first_token_s / self.first_tokens if self.first_tokens else 0.0

    def __str__(self) -> str:
        return (
            f"{self.first_tokens:.0f} answers; prefix cache: {self.cached_tokens:.0f} of {self.prompt_tokens:.0f} "
            f"prompt tokens ({self.hit_rate:.1%}); time to first token: {self.mean_first_token_s * 1000:.0f} ms on "
            f"average; {self.written_tokens:.0f} tokens written"
        )


def read(url: str) -> Stats:
    """Read the counters of a server.

    Args:
        url: the server's address, with or without /v1.

    Raises:
        UserError: if nothing answers there, or it is not a vLLM server.
    """
    base = url.rstrip("/").removesuffix("/v1")
    try:
        with open_url(f"{base}/metrics", TIMEOUT_S) as response:
            return parse(response.read().decode())
    except FAILURES as err:
        raise UserError(f"{base}/metrics: {one_line(err)[:200]}; expected the address of a vLLM server") from None


def parse(text: str) -> Stats:
    """Return the counters, summed over engines and models.

    Raises:
        ValueError: if there is none of them.
    """
    if not any(name in text for name in COUNTERS.values()):
        raise ValueError("no counters of vLLM")
    return Stats(*(_total(text, name) for name in COUNTERS.values()))


def _total(text: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))
