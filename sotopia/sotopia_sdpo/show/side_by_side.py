"""`sotopia compare A B --html FILE`: the episodes of two runs beside each other, in the page of the pairs' report.

Comes in: two runs. Goes out: one HTML file, the combos on which the second run loses most first. Invariant: beside
each other stand episodes of the same combo, role and trial's number; the others are counted.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import EXIT_DONE, UserError
from sotopia_sdpo.judge.reasons import reasons_in
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.pairs.blocks import SPEAKERS
from sotopia_sdpo.play.dialogue import session_of
from sotopia_sdpo.play.walk import walk_of
from sotopia_sdpo.report.data import View, report_of_views
from sotopia_sdpo.report.page import RUNS, page_of
from sotopia_sdpo.report.step import write_page
from sotopia_sdpo.report.turns import PLAIN, Line, scenario_of
from sotopia_sdpo.results.repeats import main_score
from sotopia_sdpo.results.scores import SHOWN, SOLVED, Score, score_of
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.run_names import tags_meant


AGENT, PARTNER, WORLD = SPEAKERS["gpt"], SPEAKERS["human"], SPEAKERS["observation"]


class Played(NamedTuple):
    """An episode with what it gave its target."""

    episode: Episode
    score: Score


class Told(NamedTuple):
    """What a page shows of an episode's text."""

    background: str
    lines: list[Line]
    names: tuple[str, str]


def write_comparison(first: str, second: str, target: Path, db: str | None, data_dir: Path | None) -> int:
    """Write the page, and print what is on it.

    Raises:
        UserError: if a run is not there, or the page cannot be written.
    """
    if target.is_dir():
        raise UserError(f"{target}: expected a file for the page, found a folder; give a file with --html")
    with open_store(database_url(db, data_dir), create=False) as store:
        runs = [_played(store, name) for name in (first, second)]
    found, alone = pairs_of(*runs)
    if not found:
        raise UserError(f"{first} and {second} have no combo in common, so there is nothing to show")
    views = sorted((_view(*both) for both in found), key=lambda view: (_gap(view), view["id"]))
    names = list(dict.fromkeys(name for view in views for name in view["scores"]))
    place = "task" if any(view["task"] for view in views) else "scenario"
    placed = [(view["env"], scenario_of(view["background"]), view) for view in views]
    report = report_of_views(placed, names, place, RUNS)
    write_page(page_of(report, f"{first} (A) and {second} (B)", RUNS), target)
    left = f", {alone} episodes without one of the other run left out" if alone else ""
    print(f"{len(views)} pairs of episodes{left} -> {target}")
    return EXIT_DONE


def _played(store: Store, run: str) -> list[Played]:
    tags = tags_meant([run], store.counts().episodes, store.url)
    return [Played(one, score_of(one)) for tag in tags for one in store.episodes(tag, "scored")]


def pairs_of(first: Sequence[Played], second: Sequence[Played]) -> tuple[list[tuple[Played, Played]], int]:
    """Put the episodes of the same combo, role (unless a run is self-chat) and number side by side; count the rest."""
    by_role = not any(one.score.is_self_chat for run in (first, second) for one in run)
    groups: list[dict[tuple[str, int], list[Played]]] = [{}, {}]
    for group, run in zip(groups, (first, second), strict=True):
        for one in sorted(run, key=lambda one: (one.episode.trial, one.episode.position, one.episode.pk)):
            group.setdefault((one.score.combo, one.score.position if by_role else 0), []).append(one)
    found = [
        both
        for key in sorted(groups[0].keys() & groups[1].keys())
        for both in zip(groups[0][key], groups[1][key], strict=False)
    ]
    return found, len(first) + len(second) - 2 * len(found)


def _view(one: Played, other: Played) -> View:
    """Make what the page shows of two episodes."""
    # Self-chat is shown from the role that the other run's agent has.
    position = next((each.score.position for each in (one, other) if not each.score.is_self_chat), 0)
    told = [_told(each.episode, position) for each in (one, other)]
    is_shared = told[0].background == told[1].background
    lines = [each.lines if is_shared else [Line(-1, WORLD, PLAIN, each.background), *each.lines] for each in told]
    names = _compared(one.score, other.score)
    scores = {name: [each.score.values[name] for each in (one, other)] for name in names}
    episode = one.episode
    return {
        "id": f"{episode.key.combo}/{position}#{episode.trial + 1}",
        "names": told[0].names,
        "background": told[0].background if is_shared else "",
        "shared": [],
        "sides": lines,
        "lengths": list(map(len, lines)),
        "segments": [None, None],
        "weights": [{}, {}],
        "location": None,
        "episodes": [one.episode.pk, other.episode.pk],
        "env": episode.environment,
        "task": episode.environment if episode.env else None,
        "trials": [each.episode.trial + 1 for each in (one, other)],
        "agents": episode.agents,
        "models": [_models(one.episode), _models(other.episode)],
        "position": None,
        "match": None,
        "agent_turns": [None, None],
        "reason": None,
        "location_reason": None,
        "source": None,
        "digest": None,
        "scores": scores,
        "gains": {name: values[1] - values[0] for name, values in scores.items()},
        "reasons": [_reasons(each.episode, position) for each in (one, other)],
    }


def _compared(*scores: Score) -> list[str]:
    """Return the scores that both have, as far as a line can hold them."""
    wanted = [main_score(scores), "relationship", SOLVED]
    return [name for name in wanted if name and all(name in score.values for score in scores)]


def _gap(view: View) -> float:
    return next(iter(view["gains"].values()), 0.0)


def _told(episode: Episode, position: int) -> Told:
    """Return the text of an episode as the page shows it."""
    try:
        if episode.env:
            walk = walk_of(episode.messages)
            lines = [Line(0, WORLD, PLAIN, walk.told[0])]
            for turn, (action, told) in enumerate(zip(walk.actions, walk.told[1:], strict=True)):
                lines += [Line(2 * turn + 1, AGENT, PLAIN, action), Line(2 * turn + 2, WORLD, PLAIN, told)]
            return Told("", lines, ("", ""))
        session = session_of(episode.messages)
    except ValueError as err:
        return Told("", [Line(0, WORLD, PLAIN, f"This text cannot be shown: {err}")], ("", ""))
    who = (AGENT, PARTNER) if position == 0 else (PARTNER, AGENT)
    lines = [Line(turn + 1, who[turn % 2], *action) for turn, action in enumerate(session.actions)]
    names = session.names[position], session.names[1 - position]
    return Told(
        "\n\n".join(f"To {n}:\n{b}" for n, b in zip(session.names, session.backgrounds, strict=True)), lines, names
    )


def _models(episode: Episode) -> str:
    return " and ".join(map(short_name, episode.models[1:])) or "unknown"


def _reasons(episode: Episode, position: int) -> list[tuple[str, float, str]]:
    """Return every score of the agent at a position with the judge's reason."""
    if episode.env:
        return []
    reward = episode.rewards[position]
    given: dict[str, Any] = {} if isinstance(reward, float) else reward[1]
    said = reasons_in(episode.reasoning)[position]
    return [(name, given[name], "\n".join(said.get(name, []))) for name in _ordered(given)]


def _ordered(names: Iterable[str]) -> list[str]:
    known = list(names)
    return [name for name in SHOWN if name in known] + [name for name in known if name not in SHOWN]
