"""Find, for every negative, the session that went better from the same point.

Comes in: negatives and the sides of new sessions. Goes out: for each negative the best session of those that can be
compared with it, or the reason why there is none. A session itself names the negative that it comes from (episode,
role, located turn), and is compared with it turn by turn; places in a list mean nothing.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from sotopia_sdpo.pairs.records import LocatedSide, PairedSide, PlayedSide, PreferencePair, starts_at
from sotopia_sdpo.pairs.segments import NoSegment, parting
from sotopia_sdpo.pairs.sides import EpisodeSide, record_of
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.actions import from_json
from sotopia_sdpo.play.dialogue import Message, Template
from sotopia_sdpo.play.sources import Place
from sotopia_sdpo.step_files import wrong_record
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.combos import Combo


StartingPoint = tuple[str, str, tuple[str, ...], int, int | None]
"""Where a session starts: the negative's episode, scenario, characters and role, and the located turn if any."""


P = TypeVar("P", bound=PlayedSide)


class NoPositive(ValueError):
    """A negative has no better session; the text says why, in the same words for all of a kind."""


def start_of_negative(negative: PlayedSide) -> StartingPoint:
    """Return where the sessions that belong to a negative start."""
    return negative.episode, negative.env, tuple(negative.agents), negative.agent_position, location_of(negative)


def start_of_session(episode: Episode) -> StartingPoint | None:
    """Return where a session started; None for one that starts from no negative."""
    if episode.source_episode is None or episode.agent_position is None:
        return None
    agents = tuple(episode.agents)
    return episode.source_episode, episode.environment, agents, episode.agent_position, episode.location


def location_of(negative: PlayedSide) -> int | None:
    """Return the located turn, where there is one."""
    return negative.location if isinstance(negative, LocatedSide) else None


def by_start(
    sides: Iterable[EpisodeSide], negatives: Iterable[PlayedSide], tally: Tally
) -> dict[StartingPoint, list[EpisodeSide]]:
    """Group sessions by where they started, and count those that start from none of the negatives."""
    found: dict[StartingPoint, list[EpisodeSide]] = {start_of_negative(negative): [] for negative in negatives}
    for side in sides:
        start = start_of_session(side.episode)
        if start is None:
            tally.drop("that do not say which negative they start from")
        elif start not in found:
            tally.drop("that start from another negative")
        else:
            tally.keep()
            found[start].append(side)
    return found


def better_pairs(
    negatives: Sequence[PlayedSide], sessions: dict[StartingPoint, list[EpisodeSide]], tally: Tally
) -> list[PreferencePair[PairedSide]]:
    """Pair every negative with its best session, and count those without one."""
    found = []
    for negative in negatives:
        try:
            positive = best_of(negative, sessions[start_of_negative(negative)])
        except NoPositive as err:
            tally.drop(str(err))
            continue
        tally.keep()
        found.append(pair_of(negative, positive.record))
    return found


def best_of(negative: PlayedSide, sessions: Sequence[EpisodeSide]) -> EpisodeSide:
    """Return the best session that can be compared with a negative, the earliest trial among equals.

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


def _check_comparable(negative: PlayedSide, session: PlayedSide) -> None:
    """Check that a session parts from the negative in a turn of the agent's, and not before the located one."""
    if not isinstance(negative, LocatedSide):
        if negative.conversations == session.conversations:
            raise NoSegment("with no difference")
    elif parting(negative.conversations, session.conversations) < negative.location:
        raise NoPositive("that part before the located turn")


def has_same_partner(negative: PlayedSide, session: PlayedSide) -> bool:
    """Return whether two sides were played with the same partner; true where that is not known."""
    return None in (negative.agent_model, session.agent_model) or _partner(negative) == _partner(session)


def _partner(record: PlayedSide) -> str | None:
    """Return the partner; None in self-chat, where the agent may be a newer model by now."""
    return None if record.agent_model == record.partner_model else record.partner_model


def pair_of(negative: PlayedSide, positive: PlayedSide) -> PreferencePair[PairedSide]:
    """Make the two records of a pair; the facts about the pair are on both."""
    location = location_of(negative)
    shared = {
        "pair": negative.name if location is None else f"{negative.name}@{location}",
        "location": location,
        "location_reason": negative.reason if isinstance(negative, LocatedSide) else None,
        "goal_gain": positive.goal - negative.goal,
        "relationship_gain": positive.relationship - negative.relationship,
    }
    plain = {name: value for name, value in negative.dump().items() if name not in ("location", "reason")}
    return PreferencePair(
        PairedSide(**{**plain, **shared, "side": "negative"}),
        PairedSide(**{**positive.dump(), **shared, "side": "positive"}),
    )


def check_negatives(path: Path, negatives: Sequence[P], store: Store, template: Template, writer: str) -> list[P]:
    """Check the negatives of a file against their stored episodes, and return them with the turns of these.

    Raises:
        UserError: the first one whose episode is not there, or is another dialogue.
    """
    found = []
    for number, negative in enumerate(negatives):
        try:
            found.append(_checked(negative, store, template))
        except ValueError as err:
            raise wrong_record(path, number, err, writer) from err
    return found


def _checked(negative: P, store: Store, template: Template) -> P:
    """Return a negative with the turns of its stored episode.

    Raises:
        ValueError: if that is not there, or another dialogue.
    """
    episode = store.get_episode(negative.episode)
    if episode is None:
        raise ValueError(f"its episode {negative.episode} is not in {store.url}")
    try:
        stored = record_of(episode, negative.agent_position, template)
    except ValueError as err:
        raise ValueError(f"its episode {negative.episode} cannot be used ({err})") from err
    for name in ("env", "agents", "goal", "relationship"):
        if getattr(stored, name) != getattr(negative, name):
            raise ValueError(f"{name} differs from its episode {negative.episode}")
    if negative.differs:
        return negative.model_copy(update={"conversations": with_actions_in_our_form(negative.conversations)})
    place = Place(Combo(negative.env, negative.agents), negative.agent_position)
    if not place.has(episode, negative.conversations) or starts_at(negative.conversations):
        raise ValueError(f"conversations differs from its episode {negative.episode}")
    if negative.conversations[0] != stored.conversations[0]:
        raise ValueError(
            f"conversations differs from its episode {negative.episode} in the first turn, the wording of the prompt; "
            "pass theirs with --prompt-template (`sotopia template --from FILE` makes one of a file's)"
        )
    return negative.model_copy(update={"conversations": stored.conversations})


def with_actions_in_our_form(conversations: Sequence[Message]) -> list[Message]:
    """Return a dialogue with every action written as a new session writes it; other turns stay as they are."""
    found = []
    for turn in conversations:
        try:
            found.append({**turn, "value": from_json(turn["value"]).to_json()})
        except ValueError:
            found.append(turn)
    return found
