"""Where two dialogues part, and what is cut: held against a slow look at every turn."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs_world import turns

from sotopia_sdpo.pairs.records import DialogueRecord, PreferencePair
from sotopia_sdpo.pairs.segments import NoSegment, PartedPair, parted_pairs, parting
from sotopia_sdpo.pairs.tally import Tally


WORDS = st.lists(st.sampled_from("ab"), min_size=1, max_size=9).map(
    lambda said: said[: len(said) - (len(said) + 1) % 2]
)
SESSIONS = st.tuples(WORDS, WORDS, st.booleans()).map(
    lambda both: PreferencePair(*(DialogueRecord(conversations=turns(*said, system=both[2])) for said in both[:2]))
)


def slow_parting(pair: PreferencePair) -> int | str:
    """Grow the shared beginning turn by turn."""
    one, other = pair.negative.conversations, pair.positive.conversations
    if one == other:
        return "with no difference"
    shared = 0
    while shared < len(one) and shared < len(other) and one[: shared + 1] == other[: shared + 1]:
        shared += 1
    if shared in (len(one), len(other)):
        return "with one side over before they differ"
    if shared == 0 or (shared == 1 and one[0]["from"] == "system"):
        return "that begin differently"
    return shared if one[shared]["from"] == "gpt" else "that differ first in the partner's turn"


@given(SESSIONS)
def test_dialogues_part_at_the_first_turn_that_differs(pair: PreferencePair) -> None:
    expected = slow_parting(pair)
    if isinstance(expected, str):
        with pytest.raises(NoSegment, match=f"^{expected}$"):
            parting(pair.negative.conversations, pair.positive.conversations)
    else:
        assert parting(pair.negative.conversations, pair.positive.conversations) == expected


@given(SESSIONS, st.sampled_from([1, 3, 5, 7, 99]))
def test_both_sides_are_cut_at_one_place(pair: PreferencePair, length: int) -> None:
    start = slow_parting(pair)
    if isinstance(start, str):
        return
    parted = PartedPair(pair, start)
    segment = parted.segment(length)
    negative, positive = parted.cut(segment, "why")
    assert negative["segment"] == positive["segment"] == list(segment) and negative["reason"] == "why"
    assert segment[0] == start and segment[1] - segment[0] <= length
    for record, side in ((negative, pair.negative), (positive, pair.positive)):
        cut = record["conversations"]
        assert cut == side.conversations[: segment[1]] and len(cut) == segment[1]
        assert cut[start]["from"] == cut[-1]["from"] == "gpt"
        assert DialogueRecord.model_validate(record).conversations == cut
    assert negative["conversations"][:start] == positive["conversations"][:start]
    assert negative["conversations"][start] != positive["conversations"][start]
    shorter = min(len(side.conversations) for side in pair)
    assert segment[1] - start == length or segment[1] == shorter


def test_a_cut_changes_nothing_else() -> None:
    pair = PreferencePair(
        *(DialogueRecord(conversations=turns("a", "b", word), note=None, x={"y": None}) for word in "cd")
    )
    cut = PartedPair(pair, 3).cut((3, 4), "why")
    assert cut[1] == {
        "conversations": turns("a", "b", "d"),
        "note": None,
        "x": {"y": None},
        "segment": [3, 4],
        "reason": "why",
    }
    assert pair.negative.conversations == turns("a", "b", "c")


@pytest.mark.parametrize(
    ("negative", "positive", "fault"),
    [
        (turns("a"), turns("a"), "with no difference"),
        (turns("a"), turns("a", "b", "c"), "with one side over before they differ"),
        (turns("a", "b", "c"), turns("a"), "with one side over before they differ"),
        (turns("a", "b", "c"), turns("a", "x", "d"), "that differ first in the partner's turn"),
        (turns("a"), turns("b", system=True), "that begin differently"),
    ],
)
def test_pairs_that_cannot_be_compared_are_counted(negative: Any, positive: Any, fault: str) -> None:
    tally = Tally("pairs")
    good = PreferencePair(DialogueRecord(conversations=turns("a")), DialogueRecord(conversations=turns("b")))
    bad = PreferencePair(DialogueRecord(conversations=negative), DialogueRecord(conversations=positive))
    assert parted_pairs([bad, good, bad], tally) == [PartedPair(good, 1)]
    assert tally.dropped == {fault: 2} and tally.kept == 0
