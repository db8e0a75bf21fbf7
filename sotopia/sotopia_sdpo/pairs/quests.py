"""Stored episodes of an environment as dialogues, and the pairs of negatives with episodes that went better.

Comes in: the runs that are meant, or the records of negatives. Goes out: records as those out of logs have, which say
what was played and what it came to; pairs that share all turns before the located one. What cannot be used is
counted, by reason. Invariant: a pair's two sides come from the store, whatever a file says.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import without_address
from sotopia_sdpo.outcomes import Outcome
from sotopia_sdpo.pairs.matching import NoPositive
from sotopia_sdpo.pairs.records import LocatedLog, LoggedSide, PairedLog, PreferencePair, check_unique, read_records
from sotopia_sdpo.pairs.runs import StoredRun
from sotopia_sdpo.pairs.segments import NoSegment, parting
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.walk import sharegpt_of, walk_of
from sotopia_sdpo.run.quests import quest_at
from sotopia_sdpo.step_files import wrong_record
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


Start = tuple[str, int | None]
"""Where an episode starts: the negative's episode, and the located turn if any."""


class QuestSide(NamedTuple):
    """The record of an episode, with the episode."""

    episode: Episode
    record: LoggedSide


def env_of(runs: Sequence[StoredRun]) -> str | None:
    """Return the environment whose episodes these runs have; None where they are SOTOPIA's.

    Raises:
        UserError: if they are of both.
    """
    names = list(dict.fromkeys(run.env for run in runs))
    if len(names) > 1:
        found = ", ".join(name or "SOTOPIA" for name in names)
        raise UserError(f"the episodes are of {found}; choose with --evaluator-model (an environment's is its name)")
    return names[0]


def is_quest(row: Any) -> bool:
    """Return whether a record of a file comes from an environment, where it can be played again."""
    return isinstance(row, dict) and "env" in row and "outcomes" in row


def quest_sides(store: Store, runs: Sequence[StoredRun], tally: Tally) -> Iterator[QuestSide]:
    """Render all scored episodes of some runs of an environment."""
    for run in runs:
        for episode in store.episodes(run.tag):
            if episode.status != "scored":
                tally.drop(f"{episode.status} episode")
                continue
            try:
                yield QuestSide(episode, record_of(episode))
            except ValueError as err:
                tally.drop(f"unusable: {err}")


def record_of(episode: Episode) -> LoggedSide:
    """Render a scored episode of an environment.

    Raises:
        ValueError: if it is none, or the agent does nothing in it.
    """
    walk = walk_of(episode.messages)
    if not walk.actions:
        raise ValueError("the agent never has its turn")
    env = str(episode.env)
    quest = quest_at(episode.environment, env)
    fields = {"conversations": sharegpt_of(walk), "episode": episode.pk, "env": env, "variation": quest.variation}
    fields |= {"task": str(quest), "trial": episode.trial, "source": env, "outcomes": [episode.outcome]}
    agent = without_address(episode.models[1]) if len(episode.models) == 3 else None
    return LoggedSide.model_validate({**fields, "agent_model": agent})


def score_of(records: Sequence[LoggedSide], tally: Tally, what: str) -> Outcome:
    """Return what the first of some records came to; the others came to something of the same name and range.

    Raises:
        UserError: if there is none.
    """
    if not records:
        raise UserError(f"no {what} is left: {tally.line()}")
    return records[0].outcomes[0]


def read_stored(path: Path, model: type[LoggedSide], store: Store, writer: str) -> list[LoggedSide]:
    """Read the negatives of a file, and check that they are their stored episodes.

    Raises:
        UserError: the first one that is not.
    """
    negatives = read_records(path, model, writer)
    check_unique(path, [negative.name for negative in negatives], writer)
    for number, negative in enumerate(negatives):
        episode = store.get_episode(negative.episode)
        if episode is None:
            raise wrong_record(path, number, f"its episode {negative.episode} is not in {store.url}", writer)
        try:
            stored = record_of(episode)
        except ValueError as err:
            reason = f"its episode {negative.episode} cannot be used ({err})"
            raise wrong_record(path, number, reason, writer) from err
        for name in ("conversations", "task", "source", "outcomes"):
            if getattr(stored, name) != getattr(negative, name):
                raise wrong_record(path, number, f"{name} differs from its episode {negative.episode}", writer)
    return negatives


def better_quests(
    negatives: Sequence[LoggedSide], sessions: Iterator[QuestSide], came: Tally, tally: Tally
) -> list[PreferencePair[PairedLog]]:
    """Pair every negative with the best episode that starts from it, and count those without one.

    Args:
        negatives: what went badly.
        sessions: the new episodes.
        came: counts these.
        tally: counts the negatives.
    """
    by_start: dict[Start, list[QuestSide]] = defaultdict(list)
    known = set(map(_start, negatives))
    for side in sessions:
        start = (side.episode.source_episode or "", side.episode.location)
        if start in known:
            came.keep()
            by_start[start].append(side)
        else:
            came.drop("that start from no such negative")
    found = []
    for negative in negatives:
        try:
            found.append(_pair(negative, _best(negative, by_start[_start(negative)])))
            tally.keep()
        except NoPositive as err:
            tally.drop(str(err))
    return found


def _start(negative: LoggedSide) -> Start:
    return negative.episode, _location(negative)


def _location(negative: LoggedSide) -> int | None:
    return negative.location if isinstance(negative, LocatedLog) else None


def _best(negative: LoggedSide, sides: Sequence[QuestSide]) -> LoggedSide:
    """Return the best episode that parts from a negative in a turn of the agent's, the earliest trial among equals.

    Raises:
        NoPositive: if there is none, or it is not better.
    """
    if not sides:
        raise NoPositive("without a new session")
    ordered = sorted(sides, key=lambda side: (side.episode.trial, side.episode.pk))
    usable = [side.record for side in ordered if _parts(negative, side.record)]
    if not usable:
        raise NoPositive("with no comparable session")
    best = max(usable, key=_value)
    if _value(best) <= _value(negative):
        raise NoPositive("with no better session")
    return best


def _parts(negative: LoggedSide, other: LoggedSide) -> bool:
    try:
        return parting(negative.conversations, other.conversations) >= (_location(negative) or 0)
    except NoSegment:
        return False


def _value(record: LoggedSide) -> float:
    """Return what the environment gave; it has one score."""
    return record.outcomes[0].value


def gain_of(pair: PreferencePair[PairedLog]) -> float:
    """Return how much better the positive is."""
    return _value(pair.positive) - _value(pair.negative)


def _pair(negative: LoggedSide, positive: LoggedSide) -> PreferencePair[PairedLog]:
    """Make the two records of a pair; the facts about the pair are on both."""
    location = _location(negative)
    shared = {
        "pair": negative.name if location is None else f"{negative.name}@{location}",
        "location": location,
        "location_reason": negative.reason if isinstance(negative, LocatedLog) else None,
        "outcome_gains": {negative.outcomes[0].name: _value(positive) - _value(negative)},
    }
    plain = {name: value for name, value in negative.dump().items() if name not in ("location", "reason")}
    return PreferencePair(
        PairedLog.model_validate({**plain, **shared, "side": "negative"}),
        PairedLog.model_validate({**positive.dump(), **shared, "side": "positive"}),
    )
