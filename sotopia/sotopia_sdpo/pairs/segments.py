"""Find where two dialogues of one beginning part, and cut the key segment out of both.

Comes in: pairs of dialogues. Goes out: the index at which they part, and both sides up to the end of a segment.
A dialogue alternates from its first human turn on and ends on a turn of the agent's, so a stretch from one of the
agent's turns to another has an odd number of messages. Invariant: both sides' segments start at the same index and
have the same number of messages, hence of agent turns, which is what the loss needs (arXiv 2501.01821, section 3).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sotopia_sdpo.pairs.records import DialogueRecord, PreferencePair, starts_at
from sotopia_sdpo.pairs.tally import Tally
from sotopia_sdpo.play.dialogue import Message


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
    pairs = zip(negative, positive, strict=False)
    index = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if index is None:
        same = len(negative) == len(positive)
        raise NoSegment("with no difference" if same else "with one side over before they differ")
    if index <= starts_at(positive):
        raise NoSegment("that begin differently")
    if negative[index]["from"] != "gpt":
        raise NoSegment("that differ first in the partner's turn")
    return index


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

    def segment(self, length: int) -> Segment:
        """Return the segment of this many messages, or as many as the shorter session has."""
        return self.start, min(self.start + length, len(self.negative), len(self.positive))

    def cut(self, segment: Segment, reason: str) -> list[dict[str, Any]]:
        """Cut both sides at the end of the segment, and write on both why it is this one."""
        start, end = segment
        return [
            {**side.dump(), "conversations": side.conversations[:end], "segment": [start, end], "reason": reason}
            for side in self.pair
        ]


def parted_pairs(pairs: Sequence[PreferencePair[DialogueRecord]], tally: Tally) -> list[PartedPair]:
    """Return the pairs that can be compared, and count the others by reason."""
    found = []
    for pair in pairs:
        try:
            found.append(PartedPair(pair, parting(pair.negative.conversations, pair.positive.conversations)))
        except NoSegment as err:
            tally.drop(str(err))
    return found
