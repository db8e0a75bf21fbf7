"""An action keeps its meaning through its three forms, and a model's answer is read strictly but not pedantically."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.llm.answers import AnswerError
from sotopia_sdpo.play.actions import Action, from_json, from_text, parse_answer, reads_as


WORDS = st.text(min_size=1).filter(str.strip)
ACTIONS = st.one_of(
    st.builds(Action, st.sampled_from(["speak", "action", "non-verbal communication"]), WORDS),
    st.sampled_from([Action("leave"), Action("none")]),
)


@given(ACTIONS)
def test_json_and_text_are_read_back(action: Action) -> None:
    assert from_json(action.to_json()) == action
    assert from_text(action.to_text()) == action


@given(ACTIONS)
def test_a_turn_is_its_action_in_every_form(action: Action) -> None:
    assert reads_as(action.to_json(), action) and reads_as(action.joined(), action)
    assert not reads_as(action.to_json(), Action("speak", action.argument + "x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"action_type": "speak", "argument": "You said "no".\nTwice."}', Action("speak", 'You said "no".\nTwice.')),
        ('{"action_type": "speak", "argument": "a"} {"action_type": "speak", "argument": "b"}', None),
        ('{"action_type": "speak", "argument": "cut o', None),
    ],
)
def test_words_that_were_not_escaped_are_read(text: str, expected: Action | None) -> None:
    """As the authors' scripts write turns; two objects, or half of one, are no turn."""
    if expected:
        assert from_json(text) == expected
        return
    with pytest.raises(ValueError, match="is not JSON"):
        from_json(text)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("waves", Action("action", "waves")),
        ("did nothing", Action("none")),
        ("left the conversation", Action("leave")),
        ("[non-verbal communication] nods", Action("non-verbal communication", "nods")),
    ],
)
def test_the_authors_make_an_action_of_what_is_not_said(text: str, action: Action) -> None:
    assert reads_as(Action("action", text).to_json(), action)


def test_text_is_upstreams() -> None:
    assert Action("speak", 'He said "no".').to_text() == 'said: "He said "no"."'
    assert Action("action", "opens the door").to_text() == "[action] opens the door"
    assert Action("leave").to_text() == "left the conversation"
    assert Action("none").to_text() == "did nothing"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"action_type": "speak", "argument": "Hi"}', Action("speak", "Hi")),
        ('```json\n{"action_type": "speak", "argument": "a } b { c"}\n```', Action("speak", "a } b { c")),
        ('Sure! {"action_type": "action", "argument": " waves "} Done.', Action("action", "waves")),
        ('{"note": {}} {"action_type": "leave", "argument": "bye"}', Action("leave")),
        ('{"action_type": "none", "argument": null}', Action("none")),
        (
            '<think>{"action_type": "leave", "argument": ""}?</think>{"action_type": "speak", "argument": "Hi",}',
            Action("speak", "Hi"),
        ),
        ('{"action_type": "speak", "argument": "a\\u0000b"}', Action("speak", "ab")),
    ],
)
def test_an_answer_is_read(answer: str, expected: Action) -> None:
    assert parse_answer(answer) == expected


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("", "no JSON object"),
        ("I will not.", "no JSON object"),
        ('{"action_type": "speak", "argument": "cut o', "no JSON object"),
        ("{'action_type': 'speak', 'argument': 'Hi'}", "no JSON object"),
        ('{"action_type": "shout", "argument": "Hi"}', "'shout', expected one of"),
        ('{"action_type": "speak", "argument": "  "}', "argument is empty"),
        ('{"action_type": "speak", "argument": 3}', "expected a string"),
        ('{"action_type": 3, "argument": "Hi"}', "string 'action_type'"),
    ],
)
def test_what_is_no_action_is_refused(answer: str, fault: str) -> None:
    with pytest.raises(AnswerError, match=fault):
        parse_answer(answer)


@pytest.mark.parametrize("text", ["[" * 20_000, "9" * 5000, "", "{", "5"])
def test_what_is_no_action_in_a_chat_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not JSON|expected an object"):
        from_json(text)
