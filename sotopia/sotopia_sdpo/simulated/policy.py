"""What a scripted agent does next.

Comes in: the session so far, who is asked (a character made of the model's name), and a source of draws.
Goes out: an act. A careful character asks before it offers, shares when asked and mends what it broke; a careless
one pushes, skips the question or is rude, so that its sessions have errors in places.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.draws import Draw
from sotopia_sdpo.simulated.rules import RUDE_LIMIT, Event, Standing, is_taken, stand


WORST_CARE, BEST_CARE = 0.45, 0.95
SHORTEST_PATIENCE, LONGEST_PATIENCE = 8, 28
"""Events of both sides after which an agent leaves; beyond the limit of a session it never does by itself."""


class Character(NamedTuple):
    """How a model plays, by its name."""

    care: float
    """Probability of the right act at each turn."""
    temper: float
    """Probability that a careless act is a rude one."""
    patience: int
    """Events of both sides after which it leaves."""


def character_of(nature: Draw, mood: Draw) -> Character:
    """Return a character.

    Args:
        nature: depends on the seed and the model's name only.
        mood: depends on the session as well, but not on how far it has come.
    """
    care = WORST_CARE + (BEST_CARE - WORST_CARE) * nature("care")
    patience = SHORTEST_PATIENCE + int((LONGEST_PATIENCE - SHORTEST_PATIENCE) * mood("patience"))
    return Character(care, 0.15 + 0.4 * nature("temper"), patience)


def next_act(events: Sequence[Event], side: int, character: Character, draw: Draw) -> str:
    """Choose the act of this side."""
    standing = stand(events)
    other = standing.sides[1 - side]
    if standing.deal is not None or len(events) >= character.patience:
        return acts.LEAVE
    if other.unforgiven >= RUDE_LIMIT:
        return acts.LEAVE
    if standing.open_offer is not None and standing.open_offer[0] != side:
        if is_taken(standing.open_offer[1], other):
            return acts.ACCEPT
        if draw("decline") < 0.7:
            return acts.DECLINE
    if draw("care now") >= character.care:
        return _careless(standing, side, character, draw)
    return _careful(standing, side, _last_of(events, 1 - side))


def _careful(standing: Standing, side: int, last: str) -> str:
    """Do the right thing."""
    own = standing.sides[side]
    if own.unforgiven:
        return acts.APOLOGISE
    if not own.done:
        return acts.SHARE if last == acts.ASK else acts.GREET
    if last == acts.ASK and own.times(acts.SHARE) < 2:
        return acts.SHARE
    if acts.ASK not in own.done:
        return acts.ASK
    return acts.CONCEDE if own.times(acts.FAIR) >= 2 or own.times(acts.GREEDY) >= 2 else acts.FAIR


def _careless(standing: Standing, side: int, character: Character, draw: Draw) -> str:
    """Do something that hurts."""
    own = standing.sides[side]
    if draw("temper now") < character.temper and own.unforgiven == 0:
        return acts.RUDE
    if own.times(acts.GREEDY) < 2:
        return acts.GREEDY
    return acts.FAIR if draw("push") < 0.5 else acts.GREET


def _last_of(events: Sequence[Event], side: int) -> str:
    """Find what a side did last."""
    return next((act for who, act in reversed(events) if who == side), "")
