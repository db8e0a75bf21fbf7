"""The scripted annotator: its answers are valid for any session and follow the published rules."""

import json
from collections.abc import Sequence

import pytest
from annotation_requests import TEMPLATE, ask, dialogue, first_difference, locating, segmenting, sessions, task_for
from hypothesis import given, settings
from hypothesis import strategies as st
from logs_world import logged, pair, rests, talk
from test_simulated import SESSION

from sotopia_sdpo.llm.ask import Question
from sotopia_sdpo.pairs.choose import segment_question
from sotopia_sdpo.pairs.locate import location_question
from sotopia_sdpo.pairs.records import LoggedSide, PairedLog, PreferencePair
from sotopia_sdpo.pairs.segments import PartedPair
from sotopia_sdpo.play.dialogue import Message, chat_of, check_location
from sotopia_sdpo.simulated import acts
from sotopia_sdpo.simulated.annotator import annotate, job_of
from sotopia_sdpo.simulated.replies import ChatRequest


CORRECTION = [
    {"role": "assistant", "content": '{"reason": "start_index, end_index", "index": 2}'},
    {"role": "user", "content": "2 is a turn of the partner's; give an index of the agent's."},
]


def located(*said: str, position: int = 0, system: bool = False) -> int:
    """Locate the turn that hurt."""
    return annotate(task_for(locating(dialogue(said, position, system))))["index"]


def segment(negative: Sequence[str], positive: Sequence[str], position: int = 0) -> tuple[int, int]:
    """Find the segment."""
    found = annotate(task_for(segmenting(dialogue(negative, position), dialogue(positive, position))))
    return found["start_index"], found["end_index"]


@settings(deadline=None)
@given(sessions(), st.booleans())
def test_right_answers_are_valid(pair: tuple[list[Message], list[Message]], again: bool) -> None:
    more = CORRECTION if again else []
    for conversations in pair:
        found = annotate(task_for(locating(conversations, *more)))
        assert set(found) == {"reason", "index"} and found["reason"]
        check_location(conversations, found["index"])
    found = annotate(task_for(segmenting(*pair, *more)))
    assert set(found) == {"reason", "start_index", "end_index"} and found["reason"]
    assert found["start_index"] == first_difference(*pair) <= found["end_index"]
    check_location(pair[1], found["end_index"])


def test_the_costliest_turn_is_located() -> None:
    """Indices 1, 3, 5 are the agent's. Rude 4, greedy 3, an offer before asking 2; rude again 6."""
    assert located(acts.FAIR, acts.DECLINE, acts.RUDE, acts.GREET, acts.GREEDY) == 3
    assert located(acts.FAIR, acts.DECLINE, acts.GREET, acts.GREET, acts.GREEDY) == 5
    assert located(acts.RUDE, acts.GREET, acts.ASK, acts.SHARE, acts.RUDE) == 5
    assert located(acts.RUDE, acts.GREET, acts.APOLOGISE, acts.SHARE, acts.RUDE) == 1
    assert located(acts.RUDE, acts.GREET, acts.APOLOGISE, acts.SHARE, acts.RUDE, system=True) == 2


def test_what_the_partner_did_counts() -> None:
    """A greedy offer should not be taken; leaving costs 3, but nothing after a deal or two rude acts of the other's."""
    assert located(acts.GREEDY, acts.ACCEPT, acts.FAIR, acts.DECLINE, position=1) == 1
    assert located(acts.ASK, acts.GREEDY, acts.ACCEPT) == 3
    assert located(acts.ASK, acts.SHARE, acts.CONCEDE, acts.GREET, acts.LEAVE) == 5
    assert located(acts.ASK, acts.RUDE, acts.CONCEDE, acts.RUDE, acts.LEAVE) == 3
    assert located(acts.ASK, acts.SHARE, acts.CONCEDE, acts.ACCEPT, acts.LEAVE) == 3
    assert located(acts.ASK, acts.CONCEDE, acts.DECLINE) == 3
    assert located(acts.ASK, acts.GREEDY, acts.DECLINE) == 1


def test_a_reason_names_the_act() -> None:
    task = task_for(locating(dialogue([acts.ASK, acts.SHARE, acts.GREEDY])))
    assert annotate(task)["reason"] == (
        "By the rules of the simulation, this turn hurt most: greedy offer, which the other cannot take."
    )


def test_a_segment_ends_where_the_better_session_has_most_of_its_lead() -> None:
    """At once by relationship (-1 against 1); by the deal, which the partner's answer to the agent's turn settles."""
    assert segment([acts.GREEDY, acts.DECLINE, acts.ASK], [acts.ASK, acts.SHARE, acts.FAIR]) == (1, 1)
    shared = [acts.ASK, acts.SHARE]
    worse = [*shared, acts.GREET, acts.GREET, acts.GREET, acts.GREET, acts.GREET]
    better = [*shared, acts.FAIR, acts.ASK, acts.GREET, acts.ACCEPT, acts.LEAVE]
    assert segment(worse, better) == (3, 5) and segment(worse[:3], better) == (3, 5)
    rude = [acts.RUDE, acts.GREET, acts.GREET, acts.GREET, acts.LEAVE]
    good = [acts.ASK, acts.SHARE, acts.FAIR, acts.ACCEPT, acts.LEAVE]
    assert segment(rude, good) == (1, 3)  # 1 of 8 goal points ahead after the first turn, 8 after the offer is taken


def test_the_partners_first_action_is_part_of_the_session() -> None:
    """Position 1: the offer stands at the end of the instructions, and taking it is worth 5 goal points;
    where nothing was offered nothing is taken, and the segment is the short one.
    """
    rest = [acts.GREET, acts.GREET]
    for opening, end in ((acts.FAIR, 1), (acts.GREET, 3)):
        assert segment([opening, acts.DECLINE], [opening, acts.ACCEPT, *rest], position=1) == (1, end)


def test_a_session_that_is_never_ahead_gets_a_short_segment() -> None:
    """The agent's second turn from the first difference on, or its only one."""
    better = [acts.ASK, acts.SHARE, acts.FAIR, acts.ACCEPT, acts.LEAVE]
    assert segment(better, [acts.RUDE, acts.LEAVE, acts.RUDE, acts.LEAVE, acts.GREET]) == (1, 3)
    assert segment(better, [*better[:4], acts.GREET]) == (5, 5)


def test_words_in_no_form_are_heard_as_words() -> None:
    rows = [
        {"index": 1, "who": "agent", "text": "Hello there"},
        {"index": 2, "who": "partner", "turn": {"action_type": 7}},
        {"index": 3, "who": "agent", "text": "You are\u2028a fool"},
    ]
    body = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    request = ask("Nobody is named here.", {"dialogue": body}, "")
    assert annotate(task_for(request))["index"] == 3


def test_other_requests_are_not_taken_for_annotations() -> None:
    asked = ChatRequest("m", chat_of(SESSION, 0, TEMPLATE), 0.0, None)
    named = ask("Told.", {}, "the <dialogue>, the <second> … </second>, start_index, end_index")
    assert job_of(asked) is None and job_of(named) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"index": 2, "who": "partner", "text": "a"}', "<dialogue>: expected a turn of the agent, found none"),
        ('{"index": 1, "who": "me"}', "is not an object with an index and who"),
        ('{"who": "agent"}', "is not an object with an index and who"),
        ('{"index": 1, ', "is not an object with an index and who"),
    ],
)
def test_a_block_in_another_form_is_refused(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        job_of(ask("Told.", {"dialogue": line}, ""))


def read(question: Question) -> object:
    """Have the annotator answer a question, and read the answer as the steps do."""
    request = ChatRequest("judge", [{"role": "user", "content": question.text}], 0.0, None)
    return question.read(json.dumps(annotate(task_for(request))))


@settings(deadline=None)
@given(st.sampled_from(["", "h", "sh", "hcooh", "shgh", "hco"]), rests(), rests())
def test_dialogues_out_of_logs_are_annotated_too(shared: str, worse: str, better: str) -> None:
    """No act of the scripted world is in them, so it is the agent's first turn, and a segment of two turns at most."""
    conversations = talk(shared) + talk(better)
    first = next(index for index, turn in enumerate(conversations) if turn["from"] in ("gpt", "function_call"))
    assert read(location_question(LoggedSide(**logged(conversations)))).indices == (first,)
    parted = PartedPair(PreferencePair(*(PairedLog(**one) for one in pair(shared, worse, better))), len(shared))
    agents = sum(letter in "gc" for letter in better)
    assert read(segment_question(parted)).length == min(2, agents)
