"""Write results as text tables, and as upstream's result files."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sotopia_sdpo.judge.dimensions import DIMENSIONS, UPSTREAM_ORDER
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.results.scores import ALL, Result, Score
from sotopia_sdpo.results.stats import decimals


SIMULATION_NOTE = (
    "  (answers of the scripted server are among these: the figures mean nothing about real social skill)"
)


def results_table(title: str, results: Sequence[Result]) -> str:
    """Write a run's results: a line for every dimension, columns for every subset."""
    lines = [title]
    head = f"{'':34}" + "".join(f"{result.subset:>8}  {'95 % interval':16}" for result in results)
    lines.append(head.rstrip())
    for name in results[0].estimates:
        cells = [result.estimates[name] for result in results]
        lines.append((f"  {name:32}" + "".join(f"{decimals(c.mean):>8}  {c.interval:16}" for c in cells)).rstrip())
    for label, field in (("episodes", "values"), ("scenarios", "clusters")):
        counts = [getattr(next(iter(result.estimates.values())), field) for result in results]
        lines.append((f"  {label:32}" + "".join(f"{count:8d}  {'':16}" for count in counts)).rstrip())
    return "\n".join(lines)


def simulation_note(scores: Iterable[Score]) -> list[str]:
    """Return the note for figures that come from a scripted server; empty for others."""
    return [SIMULATION_NOTE] if any(score.is_simulated for score in scores) else []


def upstream_row(model: str, result: Result) -> dict[str, Any]:
    """Write a run's means under upstream's column names, with intervals and counts after them."""
    by_short = {d.short: d for d in DIMENSIONS}
    row: dict[str, Any] = {"model_name": model}
    row |= {by_short[s].column: result.estimates[by_short[s].name].mean for s in UPSTREAM_ORDER}
    return row | {"details": {name: estimate.record() for name, estimate in result.estimates.items()}}


def write_jsonl(folder: Path, partner: str, rows: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write one file for each subset, named as upstream names them, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for subset, items in rows.items():
        suffix = "" if subset == ALL else f"_{subset}"
        path = folder / f"models_vs_{short_name(partner)}{suffix}.jsonl"
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in items), "utf-8")
        temporary.replace(path)
        written.append(path)
    return written
