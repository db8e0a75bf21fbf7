"""Read scores out of the store, and estimate a run's means from them.

Comes in: tags. Goes out: per run the mean of every dimension with its interval, over all episodes and over the hard
scenarios. An episode counts once: as its target's scores, or as the mean of both sides where both are the target.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL
from sotopia_sdpo.results.stats import Estimate, clustered
from sotopia_sdpo.run.plan import SIMULATED
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


SHOWN = ("goal", "relationship", *(d.name for d in DIMENSIONS if d.name not in ("goal", "relationship")), OVERALL)
"""The order of a table: what the method is about first."""
ALL, HARD = "all", "hard"


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
    if episode.is_self_chat:
        names = set.intersection(*(set(verdict) for verdict in verdicts))
        values = {name: sum(verdict[name] for verdict in verdicts) / len(verdicts) for name in names}
    else:
        values = verdicts[episode.position]
    is_simulated = bool(episode.settings.get(SIMULATED))
    return Score(episode.environment, episode.key.combo, episode.position, values, episode.is_self_chat, is_simulated)


def scores_of(store: Store, tags: Iterable[str]) -> list[Score]:
    """Read all scores of some tags."""
    return [score_of(episode) for tag in tags for episode in store.episodes(tag, "scored")]


def results_of(scores: Sequence[Score], hard: Collection[str]) -> list[Result]:
    """Estimate every dimension over all scenarios, and over the hard ones where there are both kinds."""
    subsets = [(ALL, list(scores)), (HARD, [score for score in scores if score.environment in hard])]
    if len(subsets[1][1]) == len(scores):
        subsets = [(HARD, list(scores))]
    return [Result(name, estimates_of(chosen)) for name, chosen in subsets if chosen]


def estimates_of(scores: Sequence[Score]) -> dict[str, Estimate]:
    """Estimate every dimension that any of the scores has."""
    return {
        name: clustered((score.environment, score.values[name]) for score in scores if name in score.values)
        for name in SHOWN
        if any(name in score.values for score in scores)
    }
