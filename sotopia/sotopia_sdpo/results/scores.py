"""Read scores out of the store, and estimate a run's means from them.

Comes in: tags. Goes out: per run the mean of every dimension with its interval, over all episodes and over the hard
scenarios. An episode counts once: as its target's scores, or as the mean of both sides where both are the target.
Quests of an environment have its score and the share that is solved; their clusters are the kinds of quests, or the
quests where all are of one kind.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from sotopia_sdpo.judge.dimensions import DIMENSIONS, OVERALL
from sotopia_sdpo.judge.panel import Judgement, judgements_in
from sotopia_sdpo.results.stats import Estimate, clustered
from sotopia_sdpo.run.plan import SIMULATED
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


SHOWN = ("goal", "relationship", *(d.name for d in DIMENSIONS if d.name not in ("goal", "relationship")), OVERALL)
"""The order of a table: what the method is about first."""
ALL, HARD = "all", "hard"
SOLVED = "solved"
SCENARIOS, KINDS, QUESTS = "scenarios", "kinds of quests", "quests"


class Score(NamedTuple):
    """What one episode gave its target."""

    environment: str
    combo: str
    position: int
    values: dict[str, float]
    is_self_chat: bool
    is_simulated: bool = False
    kind: str = ""
    """Of a quest in an environment."""
    judgements: tuple[Judgement, ...] = ()
    """What each judge of a panel said."""

    @property
    def positions(self) -> tuple[int, ...]:
        """Where its target sits; both where both sides are."""
        return (0, 1) if self.is_self_chat else (self.position,)


class Result(NamedTuple):
    """The figures of one run over some of its scenarios."""

    subset: str
    estimates: dict[str, Estimate]
    clusters: str = SCENARIOS
    """What the clusters of the estimates are."""


def score_of(episode: Episode) -> Score:
    """Read the target's scores of a scored episode."""
    if episode.env:
        return _score_of_quest(episode)
    verdicts = [dict(reward[1]) for reward in episode.rewards if not isinstance(reward, float)]
    for overall, verdict in zip((r[0] for r in episode.rewards if not isinstance(r, float)), verdicts, strict=True):
        verdict.setdefault(OVERALL, overall)
    if episode.is_self_chat:
        names = [name for name in verdicts[0] if all(name in verdict for verdict in verdicts)]
        values = {name: sum(verdict[name] for verdict in verdicts) / len(verdicts) for name in names}
    else:
        values = verdicts[episode.position]
    is_simulated = bool(episode.settings.get(SIMULATED))
    judgements = tuple(judgements_in(episode.settings))
    who = episode.environment, episode.key.combo, episode.position
    return Score(*who, values, episode.is_self_chat, is_simulated, judgements=judgements)


def _score_of_quest(episode: Episode) -> Score:
    outcome = episode.outcome
    values = {outcome.name: float(outcome.value)}
    if outcome.high is not None:
        values[SOLVED] = float(outcome.value >= outcome.high)
    is_simulated, kind = bool(episode.settings.get(SIMULATED)), episode.environment.rpartition("/")[0]
    return Score(episode.environment, episode.key.combo, episode.position, values, False, is_simulated, kind)


def scores_of(store: Store, tags: Iterable[str]) -> list[Score]:
    """Read all scores of some tags."""
    return [score_of(episode) for tag in tags for episode in store.episodes(tag, "scored")]


def mean_of(scores: Sequence[Score]) -> Score:
    """Average the scores of trials, or roles, of a combo: those that all of them have."""
    names = [name for name in scores[0].values if all(name in score.values for score in scores)]
    return scores[0]._replace(
        values={name: sum(score.values[name] for score in scores) / len(scores) for name in names}
    )


def results_of(scores: Sequence[Score], hard: Collection[str]) -> list[Result]:
    """Estimate every dimension over all scenarios, and over the hard ones where there are both kinds."""
    subsets = [(ALL, list(scores)), (HARD, [score for score in scores if score.environment in hard])]
    if len(subsets[1][1]) == len(scores):
        subsets = [(HARD, list(scores))]
    return [Result(name, estimates_of(chosen), clusters_of(chosen)[0]) for name, chosen in subsets if chosen]


def estimates_of(scores: Sequence[Score]) -> dict[str, Estimate]:
    """Estimate every dimension that any of the scores has."""
    present = dict.fromkeys(name for score in scores for name in score.values)
    names = [name for name in SHOWN if name in present] + [name for name in present if name not in SHOWN]
    cluster = clusters_of(scores)[1]
    return {
        name: clustered((cluster(score), score.values[name]) for score in scores if name in score.values)
        for name in names
    }


def clusters_of(scores: Sequence[Score]) -> tuple[str, Callable[[Score], str]]:
    """Return what the clusters of some scores are called, and the cluster of a score."""
    if len({score.kind for score in scores}) > 1:
        return KINDS, lambda score: score.kind
    return (QUESTS if any(score.kind for score in scores) else SCENARIOS), lambda score: score.environment
