"""The result on held-out pairs, in a line for each set of them: for the end of a training, and for its card."""

import json
import math
from collections.abc import Mapping
from pathlib import Path


ACCURACY = "rewards/accuracies"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of successes (Wilson 1927, without continuity correction)."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At a share of 0 or 1 rounding would leave a bound a hair outside, which prints as -0.000.
    return max(0.0, centre - half), min(1.0, centre + half)


def held_out_lines(results: Path) -> list[str]:
    """Return the lines of the metrics in a file."""
    return lines_of(json.loads(results.read_text(encoding="utf-8")))


def lines_of(metrics: Mapping[str, float]) -> list[str]:
    """Return a line for each set of held-out pairs in the metrics of an evaluation; several sets have names."""
    lines = []
    for prefix in [key.removesuffix(ACCURACY) for key in metrics if key.endswith(ACCURACY)]:
        share, count = metrics[f"{prefix}{ACCURACY}"], metrics.get(f"{prefix}pairs")
        name = prefix.removeprefix("eval_").rstrip("_")
        interval = ""
        if count:
            low, high = wilson_interval(share, int(count))
            interval = f" (95 % interval {low:.3f} to {high:.3f}, {count:.0f} pairs)"
        lines.append(
            f"held-out reward accuracy{f' on {name}' if name else ''} {share:.3f}{interval}, "
            f"margin {metrics[f'{prefix}rewards/margins']:z.3f}, loss {metrics[f'{prefix}loss']:.3f}"
        )
    return lines
