"""Decide which request goes wrong, and how: the switches of the scripted server.

Invariant: what happens to the n-th request of a content depends on the seed, the content and n only; so an order
of calls changes nothing, and a request that is made again meets a new draw.
"""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from sotopia_sdpo.simulated.draws import Draw, draws


MAX_REMEMBERED = 200_000
OUT_OF_RANGE_SCORES = (11, -11, 99, 3.5, "high", None)

Fault = Literal["429", "500", "timeout", "drop", "broken-json", "out-of-range", ""]


@dataclass(frozen=True)
class Faults:
    """The rates, each the share of requests that it hits, and the latency."""

    rate_429: float = 0.0
    rate_500: float = 0.0
    rate_timeout: float = 0.0
    rate_drop: float = 0.0
    rate_broken_json: float = 0.0
    rate_out_of_range: float = 0.0
    rate_annotation: float = 0.0
    """Of the annotations alone, and beside the other faults."""
    retry_after_s: float = 0.0
    hang_s: float = 600.0
    """How long a request that shall time out is kept waiting."""
    latency_ms: float = 0.0
    """Mean latency of an answer."""
    exponential: bool = False
    """Draw latencies from an exponential distribution instead of a fixed value."""

    def latency_s(self, draw: Draw) -> float:
        """Draw the latency of one request."""
        mean = self.latency_ms / 1000
        return -mean * math.log(1 - draw("latency")) if self.exponential else mean

    def is_misannotated(self, draw: Draw) -> bool:
        """Draw whether an annotation is wrong."""
        return draw("annotation") < self.rate_annotation

    def fault(self, draw: Draw) -> Fault:
        """Draw what happens to one request."""
        rates: tuple[tuple[Fault, float], ...] = (
            ("429", self.rate_429),
            ("500", self.rate_500),
            ("timeout", self.rate_timeout),
            ("drop", self.rate_drop),
            ("broken-json", self.rate_broken_json),
            ("out-of-range", self.rate_out_of_range),
        )
        left = draw("fault")
        for fault, rate in rates:
            if left < rate:
                return fault
            left -= rate
        return ""


class Occasions:
    """Counts how often each content has been asked."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()

    def draw_for(self, seed: int, content: str) -> Draw:
        """Return the source of draws for this request of a content."""
        count = self._seen.pop(content, 0) + 1
        self._seen[content] = count
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return draws(seed, content, "occasion", count)


def break_json(text: str, draw: Draw) -> str:
    """Break an answer in one of the ways that models do."""
    ways = (
        text[: max(1, len(text) * 2 // 3)],
        "I would rather not answer in that form.",
        "",
        text.replace('"', "'"),
        text.replace("action_type", "type").replace('"score"', '"points"').replace('index"', 'turn"'),
    )
    return ways[int(draw("way") * len(ways))]


def push_out_of_range(text: str, draw: Draw) -> str:
    """Replace one score of an evaluation by an invalid one; other answers stay as they are."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    verdicts = found.get("evaluations", found)
    if not isinstance(verdicts, dict) or "agent_1" not in verdicts:
        return text
    verdict = verdicts[("agent_1", "agent_2")[int(2 * draw("whose"))]]
    name = sorted(verdict)[int(draw("which") * len(verdict))]
    score = OUT_OF_RANGE_SCORES[int(draw("score") * len(OUT_OF_RANGE_SCORES))]
    if isinstance(verdict[name], dict):
        verdict[name]["score"] = score
    else:
        verdict[name] = [verdict[name][0], score]
    return json.dumps(found)
