"""A template that is derived renders the first turns it comes from; a file is compared with what agents are told."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import SHIPPED, Session, Template, load_template, sharegpt_of
from sotopia_sdpo.play.wording import derive, disagreement, first_turn_of


NAMES = [("Ann Lee", "Bo Ray"), ("Émile Roche", "Émile R."), ("Ann", "Ann Lee")]
HELLO = Action("speak", 'Hello "you"')


def session(names: tuple[str, str], scenario: str = "Two meet.") -> Session:
    """Make a session with backgrounds in SOTOPIA's form: each is told its own goal alone."""
    goals = [["win", "Unknown"], ["Unknown", "rest {x}"]]
    backgrounds = [
        f"Here is the context of this interaction:\nScenario: {scenario}\nParticipants: {names[0]} and {names[1]}\n"
        + "\n".join(f"{name}'s background: {name} is 30." for name in names)
        + "\n"
        + "\n".join(f"{name}'s goal: {goal}" for name, goal in zip(names, both, strict=True))
        for both in goals
    ]
    return Session(names, (backgrounds[0], backgrounds[1]), (HELLO, Action("action", "waves"), Action("leave")))


def rows(template: Template, positions: tuple[int, ...] = (0, 1)) -> list[dict[str, Any]]:
    return [{"conversations": sharegpt_of(session(names), at, template)} for names in NAMES for at in positions]


def write(folder: Path, found: Any) -> Path:
    path = folder / "sft_data.json"
    path.write_text(json.dumps(found))
    return path


PHRASES = "I am {{agent}}, not {{partner}}.\n{{background}}\nGo:{{#first}} (start){{/first}}"
PHRASES += "{{#second}}\n\nThey did: {{first_action}}{{/second}}"


def test_a_wording_comes_back_as_it_was(tmp_path: Path) -> None:
    """6 first turns: both roles of three pairs of characters, one of whose names holds the other's."""
    assert derive(write(tmp_path, rows(Template(PHRASES, "t")))) == (PHRASES, 6, 6)
    published = load_template("published")
    assert derive(write(tmp_path, rows(published))).text == published.text


WORDS = st.text(st.sampled_from("ab \n.:{}"), max_size=12)


@given(st.tuples(WORDS, WORDS, WORDS, WORDS), st.sampled_from([(0, 1), (0,), (1,)]))
def test_what_is_derived_renders_its_source(words: tuple[str, ...], positions: tuple[int, ...]) -> None:
    before, after, first, second = (word.replace("{{", "").replace("}}", "") for word in words)
    text = f"{before}x {{{{agent}}}}\n{{{{background}}}}\n{after}"
    template = Template(f"{text}{{{{#first}}}}{first}-{{{{/first}}}}{{{{#second}}}}{second}-{{{{/second}}}}", "t")
    turns = [first_turn_of(row["conversations"][0]["value"]) for row in rows(template, positions)]
    assert all(turn is not None and turn.is_rendered_by(template) for turn in turns)


def test_an_action_that_was_not_escaped_does_no_harm(tmp_path: Path) -> None:
    found = rows(Template(PHRASES, "t"))
    for row in found[1::2]:
        row["conversations"][0]["value"] = row["conversations"][0]["value"].replace(HELLO.to_json(), HELLO.joined())
    assert derive(write(tmp_path, found)) == (PHRASES, 6, 6)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ([{"conversations": [{"from": "human", "value": "Hi"}]}], "no first human turn has a background in SOTOPIA"),
        ([3, {}, {"conversations": 3}], "no first human turn"),
        ([], "found none"),
        (
            [one for text in "abcdef" for one in rows(Template(f"{text}\n{{{{background}}}}", "t"))],
            "renders 6 of 36 first turns, expected more than half",
        ),
    ],
)
def test_a_file_without_a_wording_is_refused(tmp_path: Path, found: Any, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        derive(write(tmp_path, found))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_agrees_with_its_own_template_alone(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, rows(load_template(name)))
    for other in SHIPPED:
        found = disagreement(path, load_template(other))
        assert (found is None) == (other == name)
        assert found is None or f"6 of 6 first turns are not what the prompt template {other}.txt (" in found


def test_of_free_text_nothing_is_said(tmp_path: Path) -> None:
    assert (
        disagreement(write(tmp_path, [{"conversations": [{"from": "human", "value": "Hi"}]}]), load_template()) is None
    )
