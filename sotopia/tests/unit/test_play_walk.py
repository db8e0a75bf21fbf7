"""A walk in its forms: read back as it was, rendered as it was prompted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.envs.protocol import Opening
from sotopia_sdpo.pairs.records import PLAYED, check_dialogue
from sotopia_sdpo.play.walk import (
    NO_ACTION,
    Walk,
    action_of,
    chat_of,
    first_turn,
    messages_of,
    sharegpt_of,
    turn_of,
    walk_of,
)


WALK = Walk(("told", "one", "two"), ("a", "b"))
WALKS = st.lists(st.tuples(st.text(), st.text())).flatmap(
    lambda steps: st.builds(lambda first: Walk((first, *(s[1] for s in steps)), tuple(s[0] for s in steps)), st.text())
)


@given(WALKS)
def test_a_walk_is_read_back(walk: Walk) -> None:
    assert walk_of(messages_of(walk)) == walk


def test_the_chat_grows_at_its_end_and_the_dialogue_ends_on_the_agent() -> None:
    assert [turn["role"] for turn in chat_of(WALK)] == ["user", "assistant", "user", "assistant", "user"]
    assert chat_of(WALK.before(1)) == chat_of(WALK)[:3] and WALK.before(1).then("b", "two") == WALK
    dialogue = check_dialogue(sharegpt_of(WALK), PLAYED)
    assert [turn["value"] for turn in dialogue] == ["told", "a", "one", "b"]
    assert [turn_of(index) for index in (1, 3)] == [0, 1]


def test_the_first_turn_says_all_that_the_agent_needs() -> None:
    told = first_turn(Opening("Find {{it}}.", "You see a door."), "`open DOOR`")
    assert all(part in told for part in ("Find {{it}}.", "You see a door.", "`open DOOR`", "one action on one line"))


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("go north", "go north"),
        ("  go north \n", "go north"),
        ("\n\n go north\nYou see a cat.\ngo south", "go north"),
        ("", NO_ACTION),
        (" \n\t\r\n", NO_ACTION),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_an_action_is_the_first_line_with_text(answer: str, action: str) -> None:
    assert action_of(answer) == action


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "it has no turns"),
        ([[("Environment", "Ann", "x"), ("Environment", "Bo", "y")]], "turn 0: expected what the agent is told"),
        ([[("Environment", "Agent", "x")], [("Environment", "Agent", "y")]], "turn 0"),
        ([[("Environment", "Agent", "x"), ("Agent", "Environment", "y")]], "turn 0"),
    ],
)
def test_other_messages_are_refused(messages: list[list[tuple[str, str, str]]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        walk_of(messages)
