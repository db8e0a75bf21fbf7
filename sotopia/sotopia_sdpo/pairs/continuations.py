"""Continue stored dialogues for searches: in their environment, or with partner and judge as task `hpos` does.

Comes in: negatives or positives, all of one kind, and who plays. Goes out: what each search found, and what it took.
The score of an episode of an environment is the environment's; that of a session is its goal, and a hundredth of its
relationship on top, which decides where goals are equal on average.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sotopia_sdpo.envs.pool import Pool
from sotopia_sdpo.envs.registry import open_environment
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.judge.dimensions import BY_NAME
from sotopia_sdpo.judge.panel import parse_evaluator
from sotopia_sdpo.judge.verdict import template_hash
from sotopia_sdpo.llm.limits import Limits
from sotopia_sdpo.llm.spec import ModelSpec, name_of, parse_model, without_address
from sotopia_sdpo.pairs.matching import check_negatives
from sotopia_sdpo.pairs.negatives import read_negatives
from sotopia_sdpo.pairs.quests import is_quest, read_stored
from sotopia_sdpo.pairs.records import LoggedSide, PlayedSide
from sotopia_sdpo.pairs.replays import Play, Replays, Score, calls_of
from sotopia_sdpo.pairs.sides import record_of
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.pairs.values import Played, Search
from sotopia_sdpo.play.dialogue import AGENT, Template, load_template
from sotopia_sdpo.play.replay import Origin, origin_of
from sotopia_sdpo.play.sources import Sources
from sotopia_sdpo.play.walk import sharegpt_of, turn_of, walk_of
from sotopia_sdpo.run.execute import probe, sample_items
from sotopia_sdpo.run.flight import run_loop
from sotopia_sdpo.run.plan import PlannedRun, Run, WorkItem, check_run, items_of_origins
from sotopia_sdpo.run.quests import QuestItem, QuestRun, Start, items_from, quest_at, repeats
from sotopia_sdpo.run.rollouts import roll_out_items
from sotopia_sdpo.run.runner import Counts, Follow
from sotopia_sdpo.step_files import read_list
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.keys import EpisodeKey
from sotopia_sdpo.world.tasks import TASKS, TEMPERATURE


T = TypeVar("T")
HPOS = TASKS["hpos"]
TIE_BREAK = 0.01
"""The weight of the relationship beside the goal."""
Side = PlayedSide | LoggedSide


@dataclass(frozen=True)
class Players:
    """Who plays continuations, and how many of a point at most."""

    model: str
    rollouts: int
    limits: Limits
    partner: str = ""
    evaluator: str = ""
    seed: int = 0
    tag: str = ""
    template: Template = field(default_factory=load_template)
    env: str = ""
    """What the user says that the dialogues are of, if anything."""
    max_actions: int | None = None
    """Of an episode of an environment; None: the environment's."""


class Work(NamedTuple):
    """How dialogues of one kind are continued, as `Replays` takes it, and what has to be there for it."""

    items: Callable[[int, int], Sequence[Any]]
    play: Play[Any]
    score: Callable[[Episode], Score | None]
    run: PlannedRun
    models: set[ModelSpec]
    pool: Pool | None = None


class Spent(NamedTuple):
    """What searches took, whenever it was played."""

    rollouts: int
    steps: int
    """The agent's turns in them, those that were replayed too."""
    calls: int
    """Of all models, the judge too."""
    whole: int
    """The continuations of a search that plays every point."""
    stopped_because: str = ""
    """Why not all was played, or what was played is not there any more; empty if all is well."""

    def line(self, found: int) -> str:
        """Sum it up, for each of the turns that were found too."""
        spent = f"continuations: {self.rollouts:,}, with {self.steps:,} steps and {self.calls:,} calls"
        shares = ", ".join(f"{one / found:.1f}" for one in self[:3]) if found else ""
        return f"{spent}{shares and f' ({shares} a turn found)'}; all points would take {self.whole:,} continuations"


def agent_turns(side: Side) -> list[int]:
    """Return the indices of the agent's turns."""
    return [index for index, turn in enumerate(side.conversations) if turn["from"] in AGENT]


def played_of(side: Side) -> Played:
    """Return a stored dialogue as searches see it.

    Raises:
        UserError: if its score has no range.
    """
    turns = len(agent_turns(side))
    if isinstance(side, PlayedSide):
        goal, relationship = (BY_NAME[name] for name in ("goal", "relationship"))
        spread = goal.high - goal.low + TIE_BREAK * (relationship.high - relationship.low)
        return Played(turns, session_score(side), spread)
    score = side.outcomes[0]
    if score.low is None or score.high is None:
        raise UserError(f"{side.name}: {score.name} has no range, which replays need; locate by a model instead")
    return Played(turns, score.value, score.high - score.low)


def read_playable(path: Path, writer: str, store: Store, players: Players, tally: Tally) -> Sequence[Side]:
    """Read negatives that can be played on, and check them against their stored episodes.

    Sessions with another partner than the one who is to play are left out, unless all are, as task `hpos` does.

    Raises:
        UserError: the first record that is wrong, out of a log, or not its episode; or if they are not of `--env`.
    """
    if any(map(is_quest, read_list(path, writer))):
        quests = read_stored(path, LoggedSide, store, writer)
        check_played(quests, players)
        return quests
    check_played([], players)
    sides = read_negatives(path, PlayedSide, writer, lambda: nullcontext(store))
    sides = check_negatives(path, sides, store, players.template, writer)
    alike = [side for side in sides if _is_with(side, players)]
    tally.drop("with another partner", len(sides) - len(alike) if alike else 0)
    return alike or sides


def check_played(sides: Sequence[Side], players: Players) -> None:
    """Check that those who are named can continue such dialogues; without any, sessions of SOTOPIA are meant.

    Raises:
        UserError: if somebody is missing, or they are not of `--env`.
    """
    if quests := [side for side in sides if isinstance(side, LoggedSide)]:
        if players.env not in ("", env := env_of_records(quests)):
            raise UserError(f"the records are of --env {env}, not {players.env}")
    elif players.env:
        raise UserError("the records are sessions of SOTOPIA; leave --env out")
    elif not (players.partner and players.evaluator):
        raise UserError("sessions of SOTOPIA are continued with --partner-model and scored by --evaluator-model")


def _is_with(side: PlayedSide, players: Players) -> bool:
    if side.agent_model is None:
        return True
    model, partner = (without_address(name_of(name)) for name in (players.model, players.partner))
    if side.agent_model == side.partner_model:
        return model == partner
    return model != partner and side.partner_model == partner


def search_all(
    store: Store, sides: Sequence[Side], searches: Sequence[Search[T]], players: Players
) -> tuple[list[T | None], Spent]:
    """Run a search for each dialogue; None for one whose continuations are not all scored.

    Args:
        store: has the dialogues, and gets the continuations.
        sides: the dialogues: all of one environment, or all sessions of SOTOPIA.
        searches: one for each.
        players: who plays.

    Raises:
        UserError: if a model cannot be had, the dialogues cannot be continued, or their continuations were played
            with other settings.
    """
    if not sides:
        return [], Spent(0, 0, 0, 0)
    quests = [side for side in sides if isinstance(side, LoggedSide)]
    sessions = [side for side in sides if isinstance(side, PlayedSide)]
    work = _quests(store, quests, players) if quests else _sessions(store, sessions, players)
    # Here: where all that searches want is stored, nothing else looks by whom it was played, and how.
    check_run(store, work.run)
    probe(work.models, players.limits)

    async def run() -> list[T | None]:
        with work.pool or nullcontext():
            return await replays.run()

    replays = Replays(store, work.items, work.play, work.score, searches)
    results, used = run_loop(run()), replays.used.values()
    whole = players.rollouts * sum(len(agent_turns(side)) for side in sides)
    steps, calls = sum(score.steps for score in used), sum(score.calls for score in used)
    return results, Spent(len(used), steps, calls, whole, replays.stopped_because)


def _quests(store: Store, sides: Sequence[LoggedSide], players: Players) -> Work:
    """Return how episodes of an environment are continued."""
    env, model = env_of_records(sides), parse_model(players.model)
    with closing(open_environment(env)) as environment:
        run = QuestRun(
            env=env,
            task=HPOS,
            model=model,
            env_settings=dict(environment.settings),
            temperature=HPOS.target_temperature,
            max_actions=players.max_actions or environment.max_actions,
            trials=players.rollouts,
            seed=players.seed,
            tag=players.tag,
        )
    pool = Pool(partial(open_environment, env), players.limits.concurrency)

    # All at once: the draws of two that start from one point are told apart by their places in the list.
    starts = [_starts(side, _stored(store, side)) for side in sides]
    made = iter([items_from(run, *one) for one in repeats(chain.from_iterable(starts))])
    by_side = [list(islice(made, len(points))) for points in starts]

    def items(number: int, point: int) -> list[QuestItem]:
        return by_side[number][point]

    def score(episode: Episode) -> Score:
        return Score(episode.outcome.value, len(walk_of(episode.messages).actions), calls_of(episode))

    async def play(items: Sequence[QuestItem], follow: Follow[QuestItem], done: Collection[EpisodeKey]) -> Counts:
        return await roll_out_items(store, items, pool, players.limits, follow, done)

    return Work(items, play, score, run, {model}, pool)


def _starts(side: LoggedSide, episode: Episode) -> list[Start]:
    """Return the points of an episode of an environment."""
    quest, walk = quest_at(episode.environment, str(episode.env)), walk_of(episode.messages)
    return [Start(quest, episode.pk, location, walk.before(turn_of(location))) for location in agent_turns(side)]


def _stored(store: Store, side: LoggedSide) -> Episode:
    """Return the episode of a record.

    Raises:
        UserError: if it is not there, or another dialogue.
    """
    episode = store.get_episode(side.episode)
    if episode is None or not _is_of(side, episode):
        what = "is not in" if episode is None else "has another dialogue in"
        raise UserError(f"{side.name}: its episode {what} {store.url}; give its database, or make the file again")
    return episode


def _is_of(side: LoggedSide, episode: Episode) -> bool:
    try:
        return sharegpt_of(walk_of(episode.messages)) == side.conversations
    except ValueError:
        return False


def env_of_records(sides: Sequence[LoggedSide]) -> str:
    """Return the environment that dialogues are of.

    Raises:
        UserError: if they are of several, or come out of logs.
    """
    names = {str((side.model_extra or {}).get("env", "logs")) for side in sides}
    if names & {"logs"} or len(names) != 1:
        raise UserError(
            f"the dialogues are of {', '.join(sorted(names))}; only dialogues of one environment can be continued"
        )
    return names.pop()


def _sessions(store: Store, sides: Sequence[PlayedSide], players: Players) -> Work:
    """Return how sessions of SOTOPIA are continued."""
    model, partner = parse_model(players.model), parse_model(players.partner)
    template = players.template
    run = Run(
        model,
        partner,
        parse_evaluator(players.evaluator),
        HPOS,
        template,
        template_hash(),
        TEMPERATURE,
        HPOS.target_temperature,
        trials=players.rollouts,
        seed=players.seed,
        tag=players.tag,
    )
    sources = Sources(store)
    # All at once: the draws of two that start from one point are told apart by their places in the list.
    made = items_of_origins(run, [origin for side in sides for origin in _origins(side, sources)])
    by_start: dict[tuple[str | None, int | None, int | None], list[WorkItem]] = defaultdict(list)
    for item in made:
        by_start[item.source_episode, item.agent_position, item.location].append(item)

    def items(number: int, point: int) -> list[WorkItem]:
        side = sides[number]
        return by_start[side.episode, side.agent_position, agent_turns(side)[point]]

    def score(episode: Episode) -> Score | None:
        try:
            side = record_of(episode, 1 if episode.position else 0, template)
        except ValueError:
            return None
        return Score(session_score(side), len(agent_turns(side)), calls_of(episode))

    async def play(items: Sequence[WorkItem], follow: Follow[WorkItem], done: Collection[EpisodeKey]) -> Counts:
        return await sample_items(store, items, players.limits, follow, done)

    return Work(items, play, score, run, set(made[0].models))


def _origins(side: PlayedSide, sources: Sources) -> list[Origin]:
    """Return the points of a session, each as `hpos` reads it from a record.

    Raises:
        UserError: if it is not to be replayed.
    """
    row = {**side.dump(), "agents": list(side.agents), "episode": None if side.differs else side.episode}
    try:
        return [origin_of({**row, "location": location}, sources, is_replayed=True) for location in agent_turns(side)]
    except ValueError as err:
        raise UserError(f"{side.name} cannot be continued: {err}") from err


def session_score(side: PlayedSide) -> float:
    """Return what searches go by in SOTOPIA."""
    return side.goal + TIE_BREAK * side.relationship
