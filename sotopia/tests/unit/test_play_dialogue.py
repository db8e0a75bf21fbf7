"""The one rendering: its exact form, that it only grows at its end, and that it can be read back."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import (
    SHIPPED,
    Session,
    Template,
    actions_before,
    background_of,
    chat_of,
    load_template,
    session_of,
    sharegpt_of,
)


TEMPLATE = Template("I am {{agent}}, not {{partner}}.\n{{background}}\nUp to {{max_turns}} turns.", "t.txt")
HELLO, WAVE, LEAVE = Action("speak", 'Hello "you"'), Action("action", "waves"), Action("leave")
SESSION = Session(("Ann Lee", "Bo Ray"), ("what Ann knows", "what Bo knows"), (HELLO, WAVE, LEAVE))
ACTIONS = st.lists(st.builds(Action, st.sampled_from(["speak", "action", "none"]), st.text()), max_size=20)


def test_the_first_speaker_sees_the_background_alone_first() -> None:
    assert chat_of(SESSION, 0, TEMPLATE) == [
        {"role": "user", "content": "I am Ann Lee, not Bo Ray.\nwhat Ann knows\nUp to 20 turns."},
        {"role": "assistant", "content": '{"action_type": "speak", "argument": "Hello \\"you\\""}'},
        {"role": "user", "content": '{"action_type": "action", "argument": "waves"}'},
        {"role": "assistant", "content": '{"action_type": "leave", "argument": ""}'},
    ]


def test_the_second_speakers_first_turn_ends_on_the_partners_first_action() -> None:
    told = "I am Bo Ray, not Ann Lee.\nwhat Bo knows\nUp to 20 turns.\n\n" + HELLO.to_json()
    assert sharegpt_of(SESSION, 1, TEMPLATE) == [
        {"from": "human", "value": told},
        {"from": "gpt", "value": WAVE.to_json()},
    ]
    assert sharegpt_of(SESSION, 1, TEMPLATE, whole=True)[-1] == {"from": "human", "value": LEAVE.to_json()}


def test_a_template_may_place_the_first_action_itself() -> None:
    template = Template("{{first_action}}\n{{background}}", "t.txt")
    assert chat_of(SESSION, 1, template)[0]["content"] == HELLO.to_json() + "\nwhat Bo knows"


def test_parts_of_a_template_depend_on_who_speaks_first() -> None:
    template = Template(
        "{{background}}{{#first}} You start.{{/first}}{{#second}}\nThey: {{first_action}}{{/second}}", "t"
    )
    assert chat_of(SESSION, 0, template)[0]["content"] == "what Ann knows You start."
    assert chat_of(SESSION, 1, template)[0]["content"] == f"what Bo knows\nThey: {HELLO.to_json()}"


def test_braces_in_a_background_are_left_alone() -> None:
    session = SESSION._replace(backgrounds=("{{agent}} {x}", ""))
    assert "{{agent}} {x}" in chat_of(session, 0, TEMPLATE)[0]["content"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("no place", "expected the placeholder {{background}}"),
        ("{{background}}{{goal}}", "unknown placeholder {{goal}}"),
        (
            "{{background}}{{#third}}x{{/third}}",
            "unknown part {{#third}}; known are {{#first}}…{{/first}}, {{#second}}",
        ),
        ("{{background}}{{#first}}x", "{{#first}} has no partner; a part is {{#name}}…{{/name}}"),
        ("{{background}}{{#first}}{{#second}}x{{/second}}{{/first}}", "{{#second}} has no partner"),
        ("{{#first}}{{background}}{{/first}}", "expected the placeholder {{background}}"),
        ("{{background}}{{#second}}{{goal}}{{/second}}", "unknown placeholder {{goal}}"),
    ],
)
def test_a_template_that_cannot_work_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_template(path)
    assert fault in str(caught.value) and "mine.txt" in str(caught.value)


def test_a_missing_template_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as a prompt template"):
        load_template(tmp_path / "none.txt")


@pytest.mark.parametrize("name", SHIPPED)
@given(ACTIONS, st.integers(0, 1))
def test_the_chat_only_grows_at_its_end(name: str, actions: list[Action], position: int) -> None:
    template = load_template(name)
    whole = chat_of(SESSION._replace(actions=tuple(actions)), position, template)
    assert [m["role"] for m in whole] == ["user", "assistant"][: 1 + len(whole)] * (len(whole) // 2) + ["user"] * (
        len(whole) % 2
    )
    for turns in range(position, len(actions)):
        part = chat_of(SESSION._replace(actions=tuple(actions[:turns])), position, template)
        if turns:
            assert part == whole[: len(part)]


@pytest.mark.parametrize("name", SHIPPED)
@given(ACTIONS.filter(len), st.integers(0, 1))
def test_what_was_before_a_location_is_read_back(name: str, actions: list[Action], position: int) -> None:
    dialogue = sharegpt_of(SESSION._replace(actions=tuple(actions)), position, load_template(name))
    for location in range(1, len(dialogue), 2):
        assert actions_before(dialogue, location, position) == actions[: location - 1 + position]
        shifted = [{"from": "system", "value": "be good"}, *dialogue]
        assert actions_before(shifted, location + 1, position) == actions[: location - 1 + position]


@pytest.mark.parametrize(
    ("location", "fault"),
    [(0, "'human' turn, expected 'gpt'"), (2, "'human' turn"), (4, "not in the dialogue of 4"), (-1, "not in the")],
)
def test_a_location_that_is_no_turn_of_the_agent_is_refused(location: int, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        actions_before(sharegpt_of(SESSION, 0, TEMPLATE), location, 0)


def test_a_turn_out_of_form_is_refused() -> None:
    dialogue = sharegpt_of(SESSION, 0, TEMPLATE)
    dialogue[1]["value"] = "Hello"
    with pytest.raises(ValueError, match="turn 1: 'Hello' is not JSON"):
        actions_before(dialogue, 3, 0)
    with pytest.raises(ValueError, match="does not end on the partner's first action"):
        actions_before(dialogue, 1, 1)


def stored(turns: list[tuple[str, str]]) -> list[list[tuple[str, str, str]]]:
    """Write messages as upstream stores them: who does what at each turn."""
    told = [("Environment", name, f"\nabout {name}\nConversation Starts:\n") for name in ("Ann", "Bo")]
    found: list[list[tuple[str, str, str]]] = [told]
    for who, text in turns:
        done = {"Ann": "did nothing", "Bo": "did nothing", who: text}
        found[-1] += [(name, "Environment", done[name]) for name in ("Ann", "Bo")]
        found.append([("Environment", name, "Turn") for name in ("Ann", "Bo")])
    return found


def test_a_stored_episode_is_read_back() -> None:
    session = session_of(stored([("Ann", 'said: "Hi"'), ("Bo", "did nothing"), ("Ann", "left the conversation")]))
    assert session == Session(("Ann", "Bo"), ("about Ann", "about Bo"), (Action("speak", "Hi"), Action("none"), LEAVE))


def test_a_stored_episode_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="turn 1: expected an action of Bo and none of Ann"):
        session_of(stored([("Ann", 'said: "Hi"'), ("Ann", 'said: "again"')]))
    with pytest.raises(ValueError, match="expected an observation for each of two agents"):
        session_of([])


def test_the_background_is_what_stands_before_the_start() -> None:
    assert background_of("\nHere it is.\nConversation Starts:\n") == "Here it is."


def test_json_turns_keep_all_characters_readable() -> None:
    assert json.loads(Action("speak", "Grüße 你好").to_json())["argument"] == "Grüße 你好"
    assert "你好" in Action("speak", "Grüße 你好").to_json()
