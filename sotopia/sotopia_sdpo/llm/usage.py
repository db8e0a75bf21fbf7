"""Count calls, tokens and money.

Comes in: the usage of single answers. Goes out: sums by role and in all, for episodes, progress and summaries.
Invariant: a cost is None, not 0, as soon as one part of the sum has no known price.
"""

import time
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """What some calls took."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None where a price is unknown."""

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            cost,
        )

    def record(self) -> dict[str, Any]:
        """Return it as an episode stores it."""
        return self._asdict()


class Meter:
    """The usage of one episode, by who caused it."""

    def __init__(self) -> None:
        """Start the clock."""
        self.parts: dict[str, Usage] = {}
        self.started = time.monotonic()

    def add(self, part: str, usage: Usage) -> None:
        """Add the usage of one answer."""
        self.parts[part] = self.parts.get(part, Usage()).plus(usage)

    def record(self) -> dict[str, Any]:
        """Return the parts as an episode stores them."""
        return {part: usage.record() for part, usage in self.parts.items()}

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return round(time.monotonic() - self.started, 3)


def cost_of(api_name: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Return the price of tokens by litellm's list; None where it does not know the model."""
    from litellm import model_cost  # here: it takes seconds

    price = model_cost.get(api_name) or model_cost.get(api_name.split("/", 1)[-1])
    if not price or "input_cost_per_token" not in price:
        return None
    per_prompt, per_completion = price["input_cost_per_token"], price.get("output_cost_per_token", 0.0)
    return float(prompt_tokens * per_prompt + completion_tokens * per_completion)


def money(cost: float | None) -> str:
    """Return a cost as text, or that it is unknown."""
    return "cost unknown" if cost is None else f"${cost:.2f}"
