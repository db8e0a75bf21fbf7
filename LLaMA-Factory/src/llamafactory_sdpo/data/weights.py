"""The weight that the data gives a turn of the agent's: how much its log-probability counts in the loss."""

from reprlib import repr as shown
from typing import Any

from ..errors import UserError


MOST = 1_000_000
"""The largest weight. Far above it the norm of the gradient is infinite in 32 bits, and clipping leaves no update."""

UNWEIGHTED = -1.0
"""In encoded rows, the weight of a turn to which the data gives none: so rows are of one type and can be compared."""


def read_weight(name: str, value: Any, is_agent: bool) -> float | None:
    """Read the field `weight` of a turn, None if it has none or null.

    Args:
        name: of the turn, for messages.
        value: of the field.
        is_agent: whether the turn is the agent's; others carry no loss, so their weight may be 0 alone.

    Raises:
        UserError: if it is not a number from 0 to MOST, or is above 0 and not the agent's.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= MOST):
        raise UserError(f"{name} has {shown(value)} as 'weight', expected a number from 0 to {MOST:,}, or nothing")
    if value and not is_agent:
        raise UserError(f"{name} has weight {shown(value)}, but only turns of the agent's carry loss; leave it out")
    return float(value) if is_agent else None


def weight_of(message: dict[str, Any]) -> float | None:
    """Return the weight that the data gives an agent's turn; None if the stage is to give it."""
    weight: float | None = message.get("weight")
    return weight
