"""Count calls, tokens and money.

Comes in: the usage of single answers. Goes out: sums by role and in all, for episodes, progress and summaries.
Invariant: tokens and a cost are None, not 0, as soon as one part of the sum is not known.
"""

import time
from typing import Any, NamedTuple, TypeVar


N = TypeVar("N", int, float)


class Usage(NamedTuple):
    """What some calls took."""

    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    """None where a server does not say how many."""
    cost: float | None = 0.0
    """US dollars; None where a price is unknown."""

    @property
    def tokens(self) -> int | None:
        """All tokens; None where they are not known."""
        return _sum(self.prompt_tokens, self.completion_tokens)

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        return Usage(
            self.calls + other.calls,
            _sum(self.prompt_tokens, other.prompt_tokens),
            _sum(self.completion_tokens, other.completion_tokens),
            _sum(self.cost, other.cost),
        )

    def record(self) -> dict[str, Any]:
        """Return it as an episode stores it."""
        return self._asdict()


def _sum(one: N | None, other: N | None) -> N | None:
    """Return the sum of what is known."""
    return None if one is None or other is None else one + other


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


def cost_of(api_name: str, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """Return the price of tokens by litellm's list; None where they are not known, or it does not know the model."""
    if prompt_tokens is None or completion_tokens is None:
        return None
    from litellm import model_cost  # here: it takes seconds

    price = model_cost.get(api_name) or model_cost.get(api_name.split("/", 1)[-1])
    if not price or "input_cost_per_token" not in price:
        return None
    per_prompt, per_completion = price["input_cost_per_token"], price.get("output_cost_per_token", 0.0)
    return float(prompt_tokens * per_prompt + completion_tokens * per_completion)


def money(cost: float | None) -> str:
    """Return a cost as text, or that it is unknown."""
    return "cost unknown" if cost is None else f"${cost:.2f}"


def amount(usage: Usage) -> str:
    """Return tokens and money as text."""
    tokens = "tokens unknown" if usage.tokens is None else f"{usage.tokens:,} tokens"
    return f"{tokens}, {money(usage.cost)}"
