"""`sotopia runs`: the runs of a database, with names that one can type.

Comes in: a store. Goes out: two lines a run, the latest last: its name, how many of its episodes are scored, its goal
(or its environment's score) with the half of the 95 % interval, tokens and money; its date and models.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import EXIT_DONE
from sotopia_sdpo.llm.spec import short_name
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.results.repeats import main_score
from sotopia_sdpo.results.scores import Score, clusters_of, score_of
from sotopia_sdpo.results.stats import clustered, decimals
from sotopia_sdpo.show.screen import BOLD, DIM, Screen, name
from sotopia_sdpo.store import database_url, open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.run_names import tags_by_run


HEAD = f"{'run':33}{'scored':>11}  {'goal':21}{'tokens':>6}{'cost':>7}"


class Listed(NamedTuple):
    """What is said of a run."""

    name: str
    scored: int
    total: int
    score: str
    usage: Usage
    latest: datetime | None
    about: str


def runs(db: str | None, data_dir: Path | None) -> int:
    """Print all runs of a database."""
    with open_store(database_url(db, data_dir), create=False) as store:
        named = tags_by_run(store.counts().episodes)
        found = [_listed(store, run, tags) for run, tags in named.items()]
    screen = Screen()
    screen.line(store.url, DIM)
    if not found:
        screen.line("no episodes")
        return EXIT_DONE
    screen.line(HEAD, DIM)
    for one in sorted(found, key=lambda one: (one.latest.timestamp() if one.latest else 0.0, one.name)):
        tokens, cost = _short(one.usage.tokens), "-" if one.usage.cost is None else f"${one.usage.cost:.2f}"
        scored = f"{one.scored}/{one.total}"
        screen.line(f"{name(one.name):33}{scored:>11}  {one.score:21}{tokens:>6}{cost:>7}", BOLD)
        screen.block(one.about)
    return EXIT_DONE


def _listed(store: Store, run: str, tags: list[str]) -> Listed:
    """Read a run's episodes, one at a time."""
    scores: list[Score] = []
    usage, total, latest, first = Usage(), 0, None, None
    for tag in tags:
        for episode in store.episodes(tag):
            total, first = total + 1, first or episode
            if episode.status == "scored":
                scores.append(score_of(episode))
            usage = usage.plus(usage_of(episode))
            if episode.created and (latest is None or episode.created.timestamp() > latest.timestamp()):
                latest = episode.created
    day = [f"{latest:%Y-%m-%d}"] if latest else []
    trials = [f"{len(tags)} trials"] if len(tags) > 1 else []
    about = ", ".join([*day, *_players(first), *trials])
    return Listed(run, len(scores), total, _score(scores), usage, latest, about)


def usage_of(episode: Episode) -> Usage:
    """Return what an episode took; unknown where it does not say."""
    parts = [part for part in episode.usage.values() if isinstance(part, dict)]
    if not parts:
        return Usage(0, None, None, None)
    found = Usage()
    for part in parts:
        found = found.plus(Usage(*(_number(part.get(field)) for field in Usage._fields)))
    return found


def _number(value: Any) -> Any:
    """Return a number of a stored episode; None for what is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _score(scores: list[Score]) -> str:
    """Write the mean with half of its interval; `-` without scores."""
    compared = main_score(scores) if scores else None
    if compared is None:
        return "-"
    cluster = clusters_of(scores)[1]
    found = clustered((cluster(score), score.values[compared]) for score in scores)
    margin = "" if found.clusters < 2 else f" ± {decimals(found.high - found.mean)}"
    label = "" if compared == "goal" else f" {compared}"
    return f"{decimals(found.mean)}{margin}{name(label)}"


def _players(episode: Episode | None) -> list[str]:
    """Return who plays and judges."""
    if episode is None or len(episode.models) != 3:
        return ["models unknown"]
    judge, agent, partner = map(short_name, episode.models)
    if episode.env:
        return [f"{agent} in {episode.env}"]
    if episode.position == 1 and not episode.is_self_chat:
        agent, partner = partner, agent
    return [f"{agent} with {partner}", f"judged by {judge}"]


def _short(count: int | None) -> str:
    """Write a number of tokens in at most five characters."""
    if count is None:
        return "-"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            shown = count / size
            return f"{shown:.1f}{unit}" if shown < 100 else f"{shown:.0f}{unit}"
    return str(count)
