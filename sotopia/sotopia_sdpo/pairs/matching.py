"""Find, for every negative, the session that went better from the same point.

Comes in: negatives and the sides of new sessions. Goes out: for each negative the best session of those that can be
compared with it, or the reason why there is none. A session says itself which negative it comes from (episode, role,
located turn), and is held against it turn by turn; places in a list mean nothing.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sotopia_sdpo.pairs.records import Located, Negative, Sided
from sotopia_sdpo.pairs.segments import NoSegment, parting
from sotopia_sdpo.pairs.sides import Side, record_of
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.dialogue import Template
from sotopia_sdpo.step_files import wrong_record
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode


Origin = tuple[str, str, tuple[str, ...], int, int | None]
"""Where a session starts: the negative's episode, scenario, characters and role, and the located turn if any."""


class NoPositive(ValueError):
    """A negative without a better session; the text says why, in the same words for all of a kind."""


def origin_of_negative(negative: Negative) -> Origin:
    """Say where the sessions that belong to a negative start."""
    location = negative.location if isinstance(negative, Located) else None
    return negative.episode, negative.env, tuple(negative.agents), negative.agent_position, location


def origin_of_session(episode: Episode) -> Origin | None:
    """Say where a session started; None for one that starts from no negative."""
    if episode.source_episode is None or episode.agent_position is None:
        return None
    agents = tuple(episode.agents)
    return episode.source_episode, episode.environment, agents, episode.agent_position, episode.location


def by_origin(sides: Iterable[Side], negatives: Iterable[Negative], tally: Tally) -> dict[Origin, list[Side]]:
    """Sort sessions by where they started, and count those that start from none of the negatives."""
    found: dict[Origin, list[Side]] = {origin_of_negative(negative): [] for negative in negatives}
    for side in sides:
        origin = origin_of_session(side.episode)
        if origin is None:
            tally.drop("that do not say which negative they start from")
        elif origin not in found:
            tally.drop("that start from another negative")
        else:
            tally.keep()
            found[origin].append(side)
    return found


def best_of(negative: Negative, sessions: Sequence[Side]) -> Side:
    """Take the best session that can be compared with a negative, the earliest trial among equals.

    Sessions with another partner than the negative's count only where there are none with the same.

    Raises:
        NoPositive: if there is none, or it is not better.
    """
    if not sessions:
        raise NoPositive("without a new session")
    alike = [side for side in sessions if has_same_partner(negative, side.record)]
    usable, why_not = [], set()
    for side in sorted(alike or sessions, key=lambda side: (side.episode.trial, side.episode.pk)):
        try:
            _check_comparable(negative, side.record)
            usable.append(side)
        except (NoPositive, NoSegment) as err:
            why_not.add(str(err))
    if not usable:
        one = f"{why_not.pop()} (all their sessions)"
        raise NoPositive("with no comparable session, for several reasons" if why_not else one)
    best = max(usable, key=lambda side: side.record.scores)
    if best.record.scores <= negative.scores:
        raise NoPositive("with no better session")
    return best


def _check_comparable(negative: Negative, session: Negative) -> None:
    """Make sure that a session parts from the negative in a turn of the agent's, and not before the located one."""
    if not isinstance(negative, Located):
        if negative.conversations == session.conversations:
            raise NoSegment("with no difference")
    elif parting(negative.conversations, session.conversations) < negative.location:
        raise NoPositive("that part before the located turn")


def has_same_partner(negative: Negative, session: Negative) -> bool:
    """Tell whether two sides were played with the same partner, as far as they tell."""
    return None in (negative.agent_model, session.agent_model) or _partner(negative) == _partner(session)


def _partner(record: Negative) -> str | None:
    """Name the partner; none in self-chat, where the agent may be a newer model by now."""
    return None if record.agent_model == record.partner_model else record.partner_model


def pair_of(negative: Negative, positive: Negative) -> tuple[Sided, Sided]:
    """Make the two records of a pair; what is said of the pair stands on both."""
    location = negative.location if isinstance(negative, Located) else None
    shared = {
        "pair": negative.name if location is None else f"{negative.name}@{location}",
        "location": location,
        "location_reason": negative.reason if isinstance(negative, Located) else None,
        "goal_gain": positive.goal - negative.goal,
        "relationship_gain": positive.relationship - negative.relationship,
    }
    plain = {name: value for name, value in negative.dump().items() if name not in ("location", "reason")}
    negative_side = Sided(**{**plain, **shared, "side": "negative"})
    return negative_side, Sided(**{**positive.dump(), **shared, "side": "positive"})


def check_negatives(path: Path, negatives: Sequence[Negative], store: Store, template: Template, writer: str) -> None:
    """Hold the negatives of a file against their stored episodes.

    Raises:
        UserError: the first one whose episode is not there, or is another dialogue.
    """
    for number, negative in enumerate(negatives):
        episode = store.get_episode(negative.episode)
        if episode is None:
            reason = f"its episode {negative.episode} is not in {store.url}"
            raise wrong_record(path, number, reason, writer)
        try:
            stored = record_of(episode, negative.agent_position, template)
        except ValueError as err:
            raise wrong_record(path, number, f"its episode {negative.episode} cannot be used ({err})", writer) from err
        for name in ("conversations", "env", "agents", "goal", "relationship"):
            if getattr(stored, name) != getattr(negative, name):
                raise wrong_record(path, number, f"{name} is not that of its episode {negative.episode}", writer)
