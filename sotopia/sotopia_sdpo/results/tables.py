"""Write results as text tables, and as upstream's result files."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL, UPSTREAM_ORDER
from sotopia_sdpo.judge.panel import disagreement
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.results.scores import ALL, SHOWN, Result, Score
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.whole_files import write_whole


SIMULATION_NOTE = (
    "  (answers of the scripted server are among these: the figures\n   mean nothing about real social skill)"
)


def results_table(title: str, results: Sequence[Result]) -> str:
    """Write a run's results: a line for every dimension, columns for every subset."""
    lines = [title]
    head = f"{'':34}" + "".join(f"{result.subset:>8}  {'95 % interval':16}" for result in results)
    lines.append(head.rstrip())
    for name in results[0].estimates:
        cells = "".join(_cell(result.estimates.get(name)) for result in results)
        lines.append(f"  {name:32}{cells}".rstrip())
    for label, field in (("episodes", "values"), (results[0].clusters, "clusters")):
        counts = [getattr(next(iter(result.estimates.values())), field) for result in results]
        lines.append((f"  {label:32}" + "".join(f"{count:8d}  {'':16}" for count in counts)).rstrip())
    return "\n".join(lines)


def _cell(found: Estimate | None) -> str:
    return f"{decimals(found.mean):>8}  {found.interval:16}" if found else f"{'-':>8}  {'':16}"


def kinds_table(scores: Sequence[Score]) -> list[str]:
    """Write the means of every kind of quests, a line each; nothing where there is only one."""
    by_kind: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_kind[score.kind].append(score)
    if len(by_kind) < 2:
        return []
    names = list(scores[0].values)
    lines = [f"  {'kind':42}{'episodes':>10}" + "".join(f"{name:>10}" for name in names)]
    for kind, found in sorted(by_kind.items()):
        means = [sum(score.values[name] for score in found) / len(found) for name in names]
        lines.append(f"  {kind:42}{len(found):10d}" + "".join(f"{decimals(mean):>10}" for mean in means))
    return lines


def panel_table(scores: Sequence[Score]) -> list[str]:
    """Write the means of each judge of a panel, how far they disagree, and how often each gave no verdict."""
    said = [(score, one) for score in scores for one in score.judgements]
    judges = sorted({one.judge for _, one in said})
    if not judges:
        return []
    lines = [f"  judge {number}: {judge}" for number, judge in enumerate(judges, 1)]
    heads = [f"judge {number}" for number in range(1, len(judges) + 1)]
    lines.append(f"  {'by judge':32}" + "".join(f"{head:>10}" for head in heads) + "  disagreement (SD)")
    for name in (name for name in SHOWN if name != OVERALL):
        given: dict[str, list[float]] = {judge: [] for judge in judges}
        for score, one in said:
            given[one.judge] += [one.scores[position][name] for position in score.positions if one.scores]
        gaps = [disagreement(score.judgements, p, name) for score in scores for p in score.positions]
        columns = [*given.values(), [gap for gap in gaps if gap is not None]]
        lines.append(f"  {name:32}" + "".join(f"{decimals(fmean(c)) if c else '-':>10}" for c in columns))
    silent = [sum(one.judge == judge and not one.scores for _, one in said) for judge in judges]
    lines.append(f"  {'no verdict':32}" + "".join(f"{count:10}" for count in silent))
    return lines


def simulation_note(scores: Iterable[Score]) -> list[str]:
    """Return the note for figures that come from a scripted server; empty for others."""
    return [SIMULATION_NOTE] if any(score.is_simulated for score in scores) else []


def upstream_row(model: str, result: Result) -> dict[str, Any]:
    """Write a run's means under upstream's column names, with intervals and counts after them.

    A dimension that no episode has is left out: an imported one may lack it.
    """
    by_short = {d.short: d for d in DIMENSIONS}
    row: dict[str, Any] = {"model_name": model}
    found = [by_short[short] for short in UPSTREAM_ORDER if by_short[short].name in result.estimates]
    row |= {dimension.column: result.estimates[dimension.name].mean for dimension in found}
    return row | {"details": {name: estimate.record() for name, estimate in result.estimates.items()}}


def write_jsonl(folder: Path, partner: str, rows: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write one file for each subset, named as upstream names them, and return their paths.

    Raises:
        UserError: if one cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for subset, items in rows.items():
            suffix = "" if subset == ALL else f"_{subset}"
            path = folder / f"models_vs_{short_name(partner)}{suffix}.jsonl"
            write_whole(path, "".join(json.dumps(row) + "\n" for row in items))
            written.append(path)
    except OSError as err:
        raise UserError(f"{folder}: cannot be written ({err.strerror or err}); name another folder") from err
    return written
