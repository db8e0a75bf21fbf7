"""Write a league as text, as JSON, as CSV and as LaTeX.

Comes in: a league. Goes out: texts. Every form has the same figures; the text and the LaTeX round to two decimals.
"""

import csv
import io
import math
import textwrap
from collections.abc import Iterator
from typing import Any

from sotopia_sdpo.results.crossed import Crossed
from sotopia_sdpo.results.league import SIGNIFICANT, Arm, Gap, League
from sotopia_sdpo.results.scores import clusters_of
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.text import as_cell, one_line


WIDTH = 80
FIELDS = ("arm", "minus", "score", "mean", "low", "high", "p", "p_holm", "episodes", "scenarios", "runs", "units")
LATEX_ESCAPES = {
    **{mark: f"\\{mark}" for mark in "_&%$#{}"},
    **{mark: f"{{{mark}}}" for mark in "[]*"},  # a row that begins with one would be an option of the `\\` before it
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
}


def text_table(league: League) -> str:
    """Write the arms, what each gains over the first, what that allows to say, and, of three or more, every two."""
    has_runs = any(len(arm.runs) > 1 for arm in league.arms)
    blocks = [line for name in league.shown for line in ("", *_block(league, name))][1:]
    unscored = [f"{arm.name} {arm.unscored}" for arm in league.arms if arm.unscored]
    more = [f"unscored episodes: {', '.join(unscored)}"] if unscored else []
    units = [*_runs_lines(league), *_wrapped(unit_line(league))] if has_runs else []
    return "\n".join([*blocks, *more, *units, *_pair_lines(league), *conclusions(league)])


def _block(league: League, name: str) -> list[str]:
    """Write what the arms have of one score, a line each."""
    width = max(len(arm.name) for arm in league.arms)
    lines = [f"{'':{width}}{name:>14}  {'95 % interval':15}{'gain':>7}  {'95 % interval':17}episodes"]
    for arm in league.arms:
        found = league.means[arm.name].get(name)
        episodes = found.estimate.values if found else 0
        lines.append(f"{arm.name:{width}}{_text_cells(league, arm, name)}{episodes:8}")
    return lines


def _runs_lines(league: League) -> list[str]:
    name = league.shown[0]
    width = max(len(arm.name) for arm in league.arms)
    return [
        f"{name} by run",
        *(f"  {arm.name:{width}} {' '.join(map(decimals, arm.by_run(name)))}" for arm in league.arms),
    ]


def conclusions(league: League) -> list[str]:
    """Say for every arm what its interval allows to say of its gain over the first."""
    first, name, lines = league.arms[0], league.shown[0], []
    for arm in league.arms[1:]:
        if gap := league.gain(arm).get(name):
            estimate, of = gap.found.estimate, _runs_of(arm, first)
            who = f"{arm.name} over {first.name}: {name} {decimals(estimate.mean, '+')}"
            short = " and ".join(one.name for one in (arm, first) if one.is_short)
            but = f"; too few episodes of {short} came to a score to stand for all" if short else ""
            lines += _wrapped(f"{who} {estimate.interval}, {of}: {_verdict(estimate)}{but}")
    return lines


def _runs_of(arm: Arm, first: Arm) -> str:
    own, others = len(arm.runs), len(first.runs)
    if own != others:
        return f"{own} run{'s' if own > 1 else ''} against {others}"
    return "one run of each" if own == 1 else f"{own} runs of each"


def _verdict(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return "there is no interval, so nothing can be said"
    if estimate.low <= 0 <= estimate.high:
        return "the interval includes 0, so no difference is shown"
    return f"the interval is {'above' if estimate.low > 0 else 'below'} 0"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def unit_line(league: League) -> str:
    """Say what the unit of the intervals is."""
    name = league.shown[0]
    having = [arm for arm in league.arms if name in league.means[arm.name]]
    most = max(having, key=lambda arm: league.means[arm.name][name].units)
    found, called = league.means[most.name][name], clusters_of(most.scores)[0]
    counts = f"{found.estimate.clusters} {called} x {found.runs} runs: {found.units} units"
    return f"unit: {called} x run ({counts}; a run is a seed of an agent); intervals are clustered by both"


def _text_cells(league: League, arm: Arm, name: str) -> str:
    found = league.means[arm.name].get(name)
    gap = league.gain(arm).get(name)
    own = f"{decimals(found.estimate.mean):>14}  {found.estimate.interval:15}" if found else f"{'-':>14}  {'':15}"
    if not gap:
        return f"{own}{'':26}"
    return f"{own}{decimals(gap.found.estimate.mean, '+'):>7}  {gap.found.estimate.interval:15}{gap.mark:2}"


def _pair_lines(league: League) -> list[str]:
    if len(league.arms) < 3:
        return []
    name = league.shown[0]
    pairs = {pair: found[name] for pair, found in league.gaps.items() if name in found}
    width = max((len(f"{b} - {a}") for a, b in pairs), default=0)
    lines = [
        f"differences in {name}, paired; * p < {SIGNIFICANT} after Holm's correction over {len(pairs)} pairs",
        f"  {'':{width}}{'mean':>7}  {'95 % interval':15}{'p':>8}{'Holm':>8}",
    ]
    for (a, b), gap in pairs.items():
        found = gap.found.estimate
        figures = f"{decimals(found.mean, '+'):>7}  {found.interval:15}{_p(gap.found.p):>8}{_p(gap.p_holm):>8}"
        lines.append(f"  {f'{b} - {a}':{width}}{figures} {gap.mark}".rstrip())
    return lines


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else "<0.001"


def record_of(league: League, arm: Arm) -> dict[str, Any]:
    """Write an arm as results.json has it: every score, the gains over the first arm, and over the others."""
    record: dict[str, Any] = {name: one.estimate.record() for name, one in league.means[arm.name].items()}
    record[f"{league.shown[0]}_by_run"] = arm.by_run(league.shown[0])
    record["unscored"] = arm.unscored
    if gain := league.gain(arm):
        record["gain"] = {name: _gap_record(gap) for name, gap in gain.items()}
    minus = {a: found for (a, b), found in league.gaps.items() if b == arm.name}
    if len(league.arms) > 2 and minus:
        record["minus"] = {a: {name: _gap_record(gap) for name, gap in found.items()} for a, found in minus.items()}
    return record


def _gap_record(gap: Gap) -> dict[str, Any]:
    p, p_holm = (None if math.isnan(value) else value for value in (gap.found.p, gap.p_holm))
    return {**gap.found.estimate.record(), "runs": gap.found.runs, "units": gap.found.units, "p": p, "p_holm": p_holm}


def csv_table(league: League) -> str:
    """Write a line for every arm and score, and for every two arms and score."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(_csv_rows(league))
    return out.getvalue()


def _csv_rows(league: League) -> Iterator[list[object]]:
    for arm, means in league.means.items():
        for name, found in means.items():
            yield [as_cell(arm), "", as_cell(name), *_figures(found), "", "", *_counts(found)]
    for (first, second), gaps in league.gaps.items():
        for name, gap in gaps.items():
            figures = [*_figures(gap.found), _cell(gap.found.p), _cell(gap.p_holm)]
            yield [*map(as_cell, (second, first, name)), *figures, *_counts(gap.found)]


def _figures(found: Crossed) -> list[object]:
    return [_cell(value) for value in found.estimate[:3]]


def _counts(found: Crossed) -> list[object]:
    return [found.estimate.values, found.estimate.clusters, found.runs, found.units]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def latex_table(league: League) -> str:
    """Write a tabular for the package booktabs: mean ± half of the interval, and the gain over the first arm."""
    titles = [f"\\multicolumn{{2}}{{c}}{{{_escaped(name)}}}" for name in league.shown]
    first = _escaped(league.arms[0].name)
    rows = [
        " & ".join([_escaped(arm.name), *(cell for name in league.shown for cell in _latex_cells(league, arm, name))])
        for arm in league.arms
    ]
    heads = " & ".join(["", *(["mean", f"over {first}"] * len(league.shown))])
    return "\n".join(
        [
            f"% {unit_line(league)}",
            f"% $^*$: p < {SIGNIFICANT} after Holm's correction over {len(league.gaps)} pairs of arms",
            f"\\begin{{tabular}}{{l{'rr' * len(league.shown)}}}",
            r"\toprule",
            " & ".join(["", *titles]) + r" \\",
            heads + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_cells(league: League, arm: Arm, name: str) -> tuple[str, str]:
    found, gap = league.means[arm.name].get(name), league.gain(arm).get(name)
    own = _latex_figure(found, "") if found else "--"
    return own, f"{_latex_figure(gap.found, '+')}{'$^*$' if gap.mark else ''}" if gap else ""


def _latex_figure(found: Crossed, sign: str) -> str:
    half = (found.estimate.high - found.estimate.low) / 2
    return (
        f"${decimals(found.estimate.mean, sign)}$"
        if math.isnan(half)
        else (f"${decimals(found.estimate.mean, sign)} \\pm {decimals(half)}$")
    )


def _escaped(text: str) -> str:
    return "".join(LATEX_ESCAPES.get(mark, mark) for mark in one_line(text))
