"""How much better the positive of a pair went than its negative, where the data says so.

Comes in: a record of the positive. Goes out: the gain in goal, or in the first outcome, as the step that makes pairs
writes it. Invariant: a pair of which nothing is said has a gap of 0, not none, so that all can be put in order.
"""

import sys
from typing import Any


MOST = sys.float_info.max


def gap_of(record: Any) -> float:
    """Return the gap that a record tells, 0 where it tells none."""
    if not isinstance(record, dict):
        return 0.0
    gains = record.get("outcome_gains")
    first = next(iter(gains.values()), None) if isinstance(gains, dict) else None
    found = record.get("goal_gain", first)
    if not isinstance(found, int | float) or isinstance(found, bool):
        return 0.0
    # Not isfinite, which fails on integers beyond a float.
    return float(found) if -MOST <= found <= MOST else 0.0
