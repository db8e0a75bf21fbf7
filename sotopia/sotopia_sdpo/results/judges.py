"""`sotopia judges`: how far people agree with each other, how far judges agree with people, and what they lean to.

Comes in: CSV files of people's ratings, and judges' scores of the same sessions. Goes out: two tables for every judge,
with a verdict by the thresholds of judge_checks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.judge.dimensions import BY_NAME
from sotopia_sdpo.results.figures import Dots, dots_figure
from sotopia_sdpo.results.judge_checks import CHECKS, Agreement, Figures, figures_of, people_agree, verdict
from sotopia_sdpo.results.judgements import Judged
from sotopia_sdpo.results.people import People
from sotopia_sdpo.results.scores import SHOWN
from sotopia_sdpo.results.sessions import Sessions
from sotopia_sdpo.results.stats import Estimate, decimals
from sotopia_sdpo.store import database_url, open_store


AGREEMENT = f"{'sides':>6}{'r':>8}  {'95 % interval':16}{'kappa':>7}{'alpha':>7}"
PEOPLE = "people"
DRAWN = 2
"""Dimensions in a figure: the goal and the relationship, where people rated them."""
LEANS = ("with turns", "with characters", "in its own family")


def judges(
    human: Sequence[str],
    scores: Sequence[str],
    tags: Sequence[str],
    db: str | None,
    data_dir: Path | None,
    figure: Path | None = None,
) -> int:
    """Print the tables, and draw the figure that is asked for.

    Raises:
        UserError: if a file or a run cannot be read, or people rated none of the sessions.
    """
    people = People([Path(path) for text in human for path in text.split(",")])
    judged = Judged(Sessions({side.session for side in people.ratings}))
    judged.read_files([path for text in scores for path in text.split(",")])
    if tags:
        with open_store(database_url(db, data_dir), create=False) as store:
            judged.read_tags(store, tags)
    agreement = {name: people_agree(people, name) for name in SHOWN if name in BY_NAME and people.given(name)}
    rated = sorted({one.judge for one in judged.given if one.side in people.ratings})
    if judged.given and not rated:
        raise UserError(
            f"none of the sessions that people rated has a judge's scores here, e.g. {next(iter(people.facts))}; "
            "pk in the CSV is the episode's"
        )
    print(people_table(people, agreement))
    for judge in sorted({one.judge for one in judged.given} - set(rated)):
        print(f"note: {judge} has scored none of the sessions that people rated, and is left out")
    for judge in rated:
        print(f"\n{judge_tables(judge, judged, people, agreement)}")
    if figure:
        draw(rated, judged, people, agreement, figure)
    if rated:
        print("\n".join(["", "What a verdict may name, in this order:", *(f"  {check.rule}" for check in CHECKS)]))
    return EXIT_DONE


def draw(rated: Sequence[str], judged: Judged, people: People, agreement: Mapping[str, Agreement], path: Path) -> None:
    """Draw r and the bias of every judge on the goal and the relationship, with r of people among themselves.

    Raises:
        UserError: if matplotlib is missing, or the file cannot be written.
    """
    facts, panels = {**people.facts, **judged.facts}, []
    for name in list(agreement)[:DRAWN]:
        found = {judge: figures_of(judge, judged.by_side(judge, name), people, facts, name) for judge in rated}
        r = {PEOPLE: agreement[name].r, **{judge: one.r for judge, one in found.items() if one}}
        panels.append(Dots(f"r with people, {name}", {row: one for row, one in r.items() if one}))
        panels.append(Dots(f"bias, {name}", {judge: one.bias for judge, one in found.items() if one}, zero=0))
    dots_figure([PEOPLE, *rated], panels, path)


def people_table(people: People, agreement: Mapping[str, Agreement]) -> str:
    """Write how far people agree with each other."""
    sessions, ratings = {side.session for side in people.ratings}, sum(map(len, people.ratings.values()))
    lines = [f"people with people: {len(sessions)} sessions, {len(people.ratings)} sides, {ratings} ratings of a side"]
    if people.repeated:
        lines.append(
            f"note: {people.repeated} lines have a rater who rated the session before; each counts as another"
        )
    lines.append(f"{'':34}{AGREEMENT}")
    for name, found in agreement.items():
        lines.append(f"  {name:32}{_agreement(found)}".rstrip())
    return "\n".join(lines)


def judge_tables(judge: str, judged: Judged, people: People, agreement: Mapping[str, Agreement]) -> str:
    """Write how far a judge agrees with people, and what its scores lean to."""
    facts = {**people.facts, **judged.facts}
    found: dict[str, Figures] = {}
    for name in agreement:
        if figures := figures_of(judge, judged.by_side(judge, name), people, facts, name):
            found[name] = figures
    lines = [f"{judge} with people: {max(figures.sessions for figures in found.values())} sessions"]
    lines.append(f"{'':34}{AGREEMENT}{'bias':>8}  {'95 % interval':16}verdict")
    for name, figures in found.items():
        told = verdict(figures, agreement[name], BY_NAME[name])
        lines.append(f"  {name:32}{_agreement(figures)}{_with_interval(figures.bias, '+')}{told}")
    lines.append(f"  {'what the bias grows by':38}" + "".join(f"  {lean:24}" for lean in LEANS) + "SD of repeats")
    for name, figures in found.items():
        leans = (figures.by_turns, figures.by_characters, figures.own_family)
        cells = "".join(_with_interval(lean, "+") for lean in leans)
        lines.append(f"  {name:32}{'':6}{cells}{_number(figures.repeats):>13}")
    return "\n".join(lines)


def _agreement(found: Agreement | Figures) -> str:
    return f"{found.sides:6}{_with_interval(found.r)}{_number(found.kappa):>7}{_number(found.alpha):>7}"


def _with_interval(found: Estimate | None, sign: str = "") -> str:
    return f"{decimals(found.mean, sign):>8}  {found.interval:16}" if found else f"{'-':>8}  {'-':16}"


def _number(value: float | None) -> str:
    return "-" if value is None else decimals(value)
