"""Read scores out of the store and put them into tables.

Comes in: tags. Goes out: per run the mean of every dimension with its interval, over all episodes and over the hard
scenarios; between two runs the paired difference over the combos that both have.
An episode counts once: as its target's scores, or as the mean of both sides where both are the target.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL, UPSTREAM_ORDER
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.results.stats import Estimate, clustered, decimals
from sotopia_sdpo.run.plan import SIMULATED
from sotopia_sdpo.store.base import Episode, Store


SHOWN = ("goal", "relationship", *(d.name for d in DIMENSIONS if d.name not in ("goal", "relationship")), OVERALL)
"""The order of a table: what the method is about first."""
ALL, HARD = "all", "hard"
SIMULATION_NOTE = (
    "  (answers of the scripted server are among these: the figures mean nothing about real social skill)"
)


class Score(NamedTuple):
    """What one episode gave its target."""

    environment: str
    combo: str
    position: int
    values: dict[str, float]
    is_self_chat: bool
    is_simulated: bool = False


class Result(NamedTuple):
    """The figures of one run over some of its scenarios."""

    subset: str
    estimates: dict[str, Estimate]


def score_of(episode: Episode) -> Score:
    """Read the target's scores of a scored episode."""
    verdicts = [dict(reward[1]) for reward in episode.rewards if not isinstance(reward, float)]
    for overall, verdict in zip((r[0] for r in episode.rewards if not isinstance(r, float)), verdicts, strict=True):
        verdict.setdefault(OVERALL, overall)
    is_self_chat = episode.agent_position is None and len(set(episode.models[1:])) == 1
    if is_self_chat:
        names = set.intersection(*(set(verdict) for verdict in verdicts))
        values = {name: sum(verdict[name] for verdict in verdicts) / len(verdicts) for name in names}
    else:
        values = verdicts[episode.position]
    is_simulated = bool(episode.settings.get(SIMULATED))
    return Score(episode.environment, episode.key.combo, episode.position, values, is_self_chat, is_simulated)


def scores_of(store: Store, tags: Iterable[str]) -> list[Score]:
    """Read all scores of some tags."""
    return [score_of(episode) for tag in tags for episode in store.episodes(tag, "scored")]


def results_of(scores: Sequence[Score], hard: Collection[str]) -> list[Result]:
    """Estimate every dimension over all scenarios, and over the hard ones where there are both kinds."""
    subsets = [(ALL, list(scores)), (HARD, [score for score in scores if score.environment in hard])]
    if len(subsets[1][1]) == len(scores):
        subsets = [(HARD, list(scores))]
    return [Result(name, _estimates(chosen)) for name, chosen in subsets if chosen]


def _estimates(scores: Sequence[Score]) -> dict[str, Estimate]:
    return {
        name: clustered((score.environment, score.values[name]) for score in scores if name in score.values)
        for name in SHOWN
        if any(name in score.values for score in scores)
    }


class Comparison(NamedTuple):
    """Two runs on the combos that both have."""

    subset: str
    first: dict[str, Estimate]
    second: dict[str, Estimate]
    difference: dict[str, Estimate]
    """Second minus first."""
    pairs: int


def compare(first: Sequence[Score], second: Sequence[Score], hard: Collection[str]) -> list[Comparison]:
    """Pair two runs by combo and role (by combo alone if one is self-chat) and estimate the difference."""
    by_role = not any(score.is_self_chat for score in (*first, *second))
    pooled = [_pooled(scores, by_role) for scores in (first, second)]
    common = sorted(pooled[0].keys() & pooled[1].keys())
    found = []
    for subset in (ALL, HARD):
        keys = [key for key in common if subset == ALL or pooled[0][key].environment in hard]
        if not keys or (subset == HARD and len(keys) == len(common)):
            continue
        sides = [[scores[key] for key in keys] for scores in pooled]
        gaps = [
            b._replace(values={name: b.values[name] - a.values[name] for name in a.values.keys() & b.values.keys()})
            for a, b in zip(*sides, strict=True)
        ]
        found.append(Comparison(subset, _estimates(sides[0]), _estimates(sides[1]), _estimates(gaps), len(keys)))
    return found


def _pooled(scores: Sequence[Score], by_role: bool) -> dict[tuple[str, int], Score]:
    """Average the trials (and roles) of a combo."""
    groups: dict[tuple[str, int], list[Score]] = defaultdict(list)
    for score in scores:
        groups[score.combo, score.position if by_role else 0].append(score)
    return {
        key: group[0]._replace(
            values={name: sum(s.values[name] for s in group) / len(group) for name in group[0].values}
        )
        for key, group in groups.items()
    }


def results_table(title: str, results: Sequence[Result]) -> str:
    """Write a run's results: a line for every dimension, columns for every subset."""
    lines = [title]
    head = f"{'':34}" + "".join(f"{result.subset:>8}  {'95 % interval':16}" for result in results)
    lines.append(head.rstrip())
    for name in results[0].estimates:
        cells = [result.estimates[name] for result in results]
        lines.append((f"  {name:32}" + "".join(f"{decimals(c.mean):>8}  {c.interval:16}" for c in cells)).rstrip())
    for label, field in (("episodes", "count"), ("scenarios", "clusters")):
        counts = [getattr(next(iter(result.estimates.values())), field) for result in results]
        lines.append((f"  {label:32}" + "".join(f"{count:8d}  {'':16}" for count in counts)).rstrip())
    return "\n".join(lines)


def simulation_note(scores: Iterable[Score]) -> list[str]:
    """Give the line that stands under figures which come from a scripted server."""
    return [SIMULATION_NOTE] if any(score.is_simulated for score in scores) else []


def comparison_table(names: tuple[str, str], comparison: Comparison) -> str:
    """Write a comparison: both means and the paired difference."""
    lines = [
        f"{comparison.subset}: {comparison.pairs} combos that both have; difference = B - A, paired",
        f"  A = {names[0]}",
        f"  B = {names[1]}",
        f"  {'':32}{'A':>8}{'B':>8}{'B - A':>9}  95 % interval",
    ]
    for name, gap in comparison.difference.items():
        means = "".join(f"{decimals(side[name].mean):>8}" for side in (comparison.first, comparison.second))
        lines.append(f"  {name:32}{means}{decimals(gap.mean, '+'):>9}  {gap.interval}")
    return "\n".join(lines)


def upstream_row(model: str, result: Result) -> dict[str, Any]:
    """Write a run's means under upstream's column names, with intervals and counts after them."""
    by_short = {d.short: d for d in DIMENSIONS}
    row: dict[str, Any] = {"model_name": model}
    row |= {by_short[s].column: result.estimates[by_short[s].name].mean for s in UPSTREAM_ORDER}
    return row | {"details": {name: estimate.record() for name, estimate in result.estimates.items()}}


def write_jsonl(folder: Path, partner: str, rows: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write one file for each subset, as upstream names them, and say which."""
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
