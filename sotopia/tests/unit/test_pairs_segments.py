"""Where two dialogues part, and what is cut: held against a slow look at every turn."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_world import pair as logged_pair
from logs_world import rests, talk
from pairs_world import turns

from sotopia_sdpo.pairs.records import DialogueRecord, PairedLog, PreferencePair
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
    agents = (length + 1) // 2
    segment, same = parted.segments(agents)
    assert segment == same and segment[1] - segment[0] == 2 * parted.turns(agents) - 1
    negative, positive = parted.cut(agents, "why")
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


def agents(conversations: list[Any], start: int, end: int) -> int:
    """Count the agent's turns one by one."""
    return sum(conversations[index]["from"] in ("gpt", "function_call") for index in range(start, end))


@given(st.sampled_from(["", "h", "sh", "hcooh", "shgh", "hco"]), rests(), rests(), st.integers(1, 9))
def test_segments_of_tool_dialogues_have_the_same_number_of_agent_turns(
    shared: str, worse: str, better: str, length: int
) -> None:
    pair = PreferencePair(*(PairedLog(**one) for one in logged_pair(shared, worse, better)))
    tally = Tally("pairs")
    (parted,) = parted_pairs([pair], tally)
    assert parted.start == len(shared)
    both = [PairedLog(**record) for record in parted.cut(length, "why")]
    counts = []
    for record, side in zip(both, pair, strict=True):
        assert record.segment is not None and record.segment[0] == len(shared)
        assert record.segment[1] == len(record.conversations) <= len(side.conversations)
        assert record.conversations == side.conversations[: len(record.conversations)]
        counts.append(agents(record.conversations, *record.segment))
    most = min(agents(side.conversations, len(shared), len(side.conversations)) for side in pair)
    assert counts == [min(length, most)] * 2 and parted.turns(length) == counts[0]


def test_a_cut_changes_nothing_else() -> None:
    pair = PreferencePair(
        *(DialogueRecord(conversations=turns("a", "b", word), note=None, x={"y": None}) for word in "cd")
    )
    cut = PartedPair(pair, 3).cut(1, "why")
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
        (talk("hcog"), talk("hcohg"), "that differ first in the partner's turn"),
        (talk("hco") + talk("g", "x"), talk("hco") + talk("hg", "y"), "that differ first in the partner's turn"),
        (talk("g", "x"), talk("hg", "y"), "that begin differently"),
    ],
)
def test_pairs_that_cannot_be_compared_are_counted(negative: Any, positive: Any, fault: str) -> None:
    tally = Tally("pairs")
    good = PreferencePair(DialogueRecord(conversations=turns("a")), DialogueRecord(conversations=turns("b")))
    bad = PreferencePair(DialogueRecord(conversations=negative), DialogueRecord(conversations=positive))
    assert parted_pairs([bad, good, bad], tally) == [PartedPair(good, 1)]
    assert tally.dropped == {fault: 2} and tally.kept == 0


def test_weights_do_not_part_two_dialogues() -> None:
    """What is said does."""
    one, other = talk("hghg"), talk("hgh") + talk("g", "x")
    one[1] = {**one[1], "weight": 0.5}
    assert parting(one, other) == 3
