"""Find where two dialogues of one beginning part, and cut the key segment out of both.

Comes in: pairs of dialogues. Goes out: where their sides part, and both sides up to the end of a segment, which goes
from one of the agent's turns to another. Invariant: both sides' segments start where these part and have the same
number of the agent's turns, which is what the loss needs (arXiv 2501.01821, section 3). In SOTOPIA's sessions, which
alternate, they have the same number of messages too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.pairs.records import DialogueRecord, PreferencePair, starts_at
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.dialogue import AGENT, Message


Segment = tuple[int, int]
"""Half-open, over conversations."""


class NoSegment(ValueError):
    """Two dialogues cannot be compared; the text says why, in the same words for all of a kind."""


def parting(negative: Sequence[Message], positive: Sequence[Message]) -> int:
    """Return the index at which two dialogues part.

    Raises:
        NoSegment: if they do not, if one is over before the other goes on differently, or if it is the partner who
            did something else first: what follows then answers to something else.
    """
    pairs = zip(map(_said, negative), map(_said, positive), strict=False)
    index = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if index is None:
        same = len(negative) == len(positive)
        raise NoSegment("with no difference" if same else "with one side over before they differ")
    if negative[index]["from"] in AGENT and positive[index]["from"] in AGENT:
        return index
    if index <= starts_at(positive):
        raise NoSegment("that begin differently")
    raise NoSegment("that differ first in the partner's turn")


def _said(turn: Message) -> tuple[str, str]:
    """Return what makes two turns the same; their weights may differ."""
    return turn["from"], turn["value"]


class PartedPair(NamedTuple):
    """A pair whose sides part in a turn of the agent's."""

    pair: PreferencePair[DialogueRecord]
    start: int
    """The index of that turn."""

    @property
    def negative(self) -> list[Message]:
        """The dialogue that went worse."""
        return self.pair.negative.conversations

    @property
    def positive(self) -> list[Message]:
        """The dialogue that went better."""
        return self.pair.positive.conversations

    @property
    def ends(self) -> tuple[list[int], list[int]]:
        """Where a segment may end, on both sides."""
        return ends_of(self.negative, self.start), ends_of(self.positive, self.start)

    def turns(self, length: int) -> int:
        """Return how many turns of the agent's a segment of this length has: not more than the shorter session."""
        return min(length, *map(len, self.ends))

    def segments(self, length: int) -> tuple[Segment, Segment]:
        """Return the segments of this many turns of the agent's, or as many as the shorter session has."""
        (negative, positive), last = self.ends, self.turns(length) - 1
        return (self.start, negative[last]), (self.start, positive[last])

    def cut(self, length: int, reason: str) -> list[dict[str, Any]]:
        """Cut both sides after this many turns of the agent's, and write on both why it is this segment."""
        return [
            {**side.dump(), "conversations": side.conversations[:end], "segment": [start, end], "reason": reason}
            for side, (start, end) in zip(self.pair, self.segments(length), strict=True)
        ]


def ends_of(conversations: Sequence[Message], start: int) -> list[int]:
    """Return where segments from `start` may end: the index after each of the agent's turns from there."""
    return [index + 1 for index in range(start, len(conversations)) if conversations[index]["from"] in AGENT]


def parted_pairs(pairs: Sequence[PreferencePair[DialogueRecord]], tally: Tally) -> list[PartedPair]:
    """Return the pairs that can be compared, and count the others by reason."""
    found = []
    for pair in pairs:
        try:
            found.append(PartedPair(pair, parting(pair.negative.conversations, pair.positive.conversations)))
        except NoSegment as err:
            tally.drop(str(err))
    return found
