"""The rules of the scripted world: who trusts whom, when an offer is taken, and what a session is worth.

Trust of the listener in the proposer: +1 if the proposer has asked about the other's need, +1 if it has shared its
own, -2 for each rude act it has not apologised for, -1 for each greedy offer. A concession is taken at trust 0 or
more, a fair offer at 1 or more, a greedy one at 3 or more (so never). Two rude acts without an apology end the talk.

Worth, for each agent. Goal: 2, +5 for a deal on a fair offer, +5 for the other's concession, +1 for its own that is
taken, +7 for its own greedy offer that is taken, -1 for the other's, +2 for having asked before the deal, -1 for
each rude act. Relationship: +1 asked, +1 shared, +1 a deal that is not greedy, +1 apologised, -1 for each greedy
offer, -2 for each rude act. These figures mean nothing about real social skill.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sotopia_sdpo.judge.dimensions import DIMENSIONS
from sotopia_sdpo.simulated import acts


TRUST_NEEDED = {acts.CONCEDE: 0, acts.FAIR: 1, acts.GREEDY: 3}
RUDE_LIMIT = 2
BASE_GOAL = 2
GOAL_OF_PROPOSER = {acts.FAIR: 5, acts.CONCEDE: 1, acts.GREEDY: 7}
GOAL_OF_ACCEPTER = {acts.FAIR: 5, acts.CONCEDE: 5, acts.GREEDY: -1}
ASKED_FIRST_GOAL = 2
Event = tuple[int, str]
"""(side, act)"""


class Conduct(NamedTuple):
    """What one side has done so far."""

    done: tuple[str, ...] = ()

    def times(self, act: str) -> int:
        """Count an act."""
        return self.done.count(act)

    @property
    def unforgiven(self) -> int:
        """Count the rude acts since its last apology."""
        last = max((i for i, act in enumerate(self.done) if act == acts.APOLOGISE), default=-1)
        return self.done[last + 1 :].count(acts.RUDE)

    @property
    def trust(self) -> int:
        """How far the other side trusts it."""
        earned = (acts.ASK in self.done) + (acts.SHARE in self.done)
        return earned - 2 * self.unforgiven - self.times(acts.GREEDY)


class Deal(NamedTuple):
    """What was settled."""

    proposer: int
    offer: str
    asked_before: tuple[bool, bool]


class Standing(NamedTuple):
    """Where a session stands."""

    sides: tuple[Conduct, Conduct]
    open_offer: Event | None
    """The last offer that is neither taken nor declined."""
    deal: Deal | None


def stand(events: Sequence[Event]) -> Standing:
    """Return where a session stands after these events."""
    done: tuple[list[str], list[str]] = ([], [])
    open_offer: Event | None = None
    deal: Deal | None = None
    for side, act in events:
        if act == acts.ACCEPT and open_offer and open_offer[0] != side and deal is None:
            deal = Deal(*open_offer, (acts.ASK in done[0], acts.ASK in done[1]))
        if act in (acts.ACCEPT, acts.DECLINE):
            open_offer = None
        if act in acts.OFFERS:
            open_offer = (side, act)
        done[side].append(act)
    return Standing((Conduct(tuple(done[0])), Conduct(tuple(done[1]))), open_offer, deal)


def is_taken(offer: str, proposer: Conduct) -> bool:
    """Return whether the listener takes an offer of this proposer."""
    return proposer.trust >= TRUST_NEEDED[offer]


def scores(events: Sequence[Event], side: int) -> dict[str, int]:
    """Score one side by the rules above; each score is inside its range."""
    standing = stand(events)
    own, other, deal = standing.sides[side], standing.sides[1 - side], standing.deal
    goal = BASE_GOAL - own.times(acts.RUDE)
    money = 0
    if deal is not None:
        table = GOAL_OF_PROPOSER if deal.proposer == side else GOAL_OF_ACCEPTER
        goal += table[deal.offer] + ASKED_FIRST_GOAL * deal.asked_before[side]
        money = table[deal.offer] // 2
    relationship = (acts.ASK in own.done) + (acts.SHARE in own.done) + (acts.APOLOGISE in own.done)
    relationship += deal is not None and deal.offer != acts.GREEDY
    relationship -= own.times(acts.GREEDY) + 2 * own.times(acts.RUDE)
    repeated = len(own.done) - len(set(own.done))
    found = {
        "believability": 9 - repeated // 2,
        "relationship": relationship,
        "knowledge": 2 * other.times(acts.SHARE),
        "secret": -1 if own.times(acts.SHARE) > 2 else 0,
        "social_rules": -2 * own.times(acts.RUDE),
        "financial_and_material_benefits": money,
        "goal": goal,
    }
    return {d.name: min(max(int(found[d.name]), d.low), d.high) for d in DIMENSIONS}
