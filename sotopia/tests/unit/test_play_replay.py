"""The rows that `pos` and `hpos` read: taken exactly, or refused with their number."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_world import small_store

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.play.actions import Action
from sotopia_sdpo.play.dialogue import Session, Template, sharegpt_of
from sotopia_sdpo.play.replay import Origin, load_origins
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.combos import Combo
from sotopia_sdpo.world.tasks import TASKS


ACTIONS = tuple(Action("speak", word) for word in ("one", "two", "three", "four", "five"))
SESSION = Session(("Ann", "Bo"), ("a", "b"), ACTIONS)
TEMPLATE = Template("{{background}}", "t.txt")


def row(position: int = 0, location: int = 3, template: Template = TEMPLATE, **changes: Any) -> dict[str, Any]:
    """Make a row as locate.py writes it."""
    dialogue = sharegpt_of(SESSION, position, template)
    found = {"conversations": dialogue, "location": location, "env": "e0", "agents": ["p0", "p1"], "episode": "S"}
    return {**found, "agent_position": position, "goal": 3, "reason": "r", **changes}


def stored(**changes: Any) -> Episode:
    """Make the episode that the rows come from."""
    told = [("Environment", name, f"\n{text}\nConversation Starts:\n") for name, text in (("Ann", "a"), ("Bo", "b"))]
    messages: list[list[tuple[str, str, str]]] = [told]
    for turn, action in enumerate(ACTIONS):
        done = [("Ann", "Environment", "did nothing"), ("Bo", "Environment", "did nothing")]
        done[turn % 2] = (("Ann", "Bo")[turn % 2], "Environment", action.to_text())
        messages[-1] = messages[-1] + done
        messages.append([("Environment", name, "seen") for name in ("Ann", "Bo")])
    fields = {"environment": "e0", "agents": ["p0", "p1"], "messages": messages, "pk": "S", "status": "unscored"}
    return Episode(**{**fields, **changes})


def load(tmp_path: Path, rows: Any, task: str = "hpos", episode: Episode | None = None) -> tuple[list[Origin], int]:
    """Write a file and read it."""
    store = small_store(tmp_path)
    if episode is not None:
        store.put_episode(episode)
    path = tmp_path / TASKS[task].file.name
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return load_origins(path, TASKS[task], store)


@pytest.mark.parametrize("has_episode", [False, True])
@pytest.mark.parametrize(("position", "location", "turns"), [(0, 1, 0), (0, 3, 2), (0, 5, 4), (1, 1, 1), (1, 3, 3)])
def test_everything_before_the_location_is_replayed(
    tmp_path: Path, position: int, location: int, turns: int, has_episode: bool
) -> None:
    origins, repeated = load(tmp_path, [row(position, location)], episode=stored() if has_episode else None)
    assert repeated == 0 and origins[0].history == ACTIONS[:turns]
    assert (origins[0].agent_position, origins[0].location, origins[0].episode) == (position, location, "S")


def test_a_template_that_hides_the_first_action_needs_the_stored_episode(tmp_path: Path) -> None:
    hidden = Template("{{first_action}} {{background}}", "t.txt")
    rows = [row(1, 3, hidden)]
    assert load(tmp_path, rows, episode=stored())[0][0].history == ACTIONS[:3]
    with pytest.raises(UserError, match="record 0: the first human turn does not end on"):
        (tmp_path / "other").mkdir()
        load(tmp_path / "other", rows)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"location": 2}, "location 2 is a 'human' turn, expected 'gpt'"),
        ({"location": 99}, "location 99 is not in the dialogue of 6 turns"),
        ({"location": "x"}, "location is 'x', expected int"),
        ({"agent_position": 2}, "agent_position is 2, expected 0 or 1"),
        ({"agents": ["p0"]}, "the agents are .*, expected two ids"),
        ({"conversations": None}, "conversations is missing"),
    ],
)
def test_a_wrong_row_is_refused_with_its_number(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=f"record 1: {fault}.*; fix it or rerun locate.py"):
        load(tmp_path, [row(), row(**changes)])


def test_a_dialogue_that_was_edited_is_refused(tmp_path: Path) -> None:
    edited = row()
    edited["conversations"][1]["value"] = Action("speak", "changed").to_json()
    with pytest.raises(UserError, match="the dialogue is not that of its episode S"):
        load(tmp_path, [edited], episode=stored())
    with pytest.raises(UserError, match="another scenario or other agents"):
        load(tmp_path, [row(agents=["p1", "p0"])], episode=stored())
    with pytest.raises(UserError, match="has 1 turns, so turn 2 cannot be located in it"):
        load(tmp_path, [row()], episode=stored(messages=[*stored().messages[:1], stored().messages[-1]]))


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[", "cannot be read as JSON"), ("[]", "found none"), ("{}", "found a dict"), ("[3]", "found '3'")],
)
def test_a_file_that_is_no_list_of_records(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        load(tmp_path, text)


def test_rows_of_pos_and_their_published_form(tmp_path: Path) -> None:
    """The published `idx` is the agent's position; a repeated row counts once."""
    rows = [
        {"env_id": "e0", "agent_ids": ["p0", "p1"], "agent_position": 1, "episode": "S"},
        {"env_id": "e0", "agent_ids": ["p0", "p1"], "idx": 1, "episode": "S"},
        {"env_id": "e0", "agent_ids": ["p0", "p1"], "idx": "0"},
    ]
    origins, repeated = load(tmp_path, rows, "pos")
    assert repeated == 1 and [(o.agent_position, o.episode) for o in origins] == [(1, "S"), (0, None)]
    assert all(origin.location is None and origin.history == () for origin in origins)


@pytest.mark.parametrize(
    ("position", "models", "expected"),
    [
        (0, ["judge", "custom/a@http://h/v1", "b"], ("custom/a", "b")),
        (1, ["judge", "custom/a@http://h/v1", "b"], ("b", "custom/a")),
        (0, [], None),
        (0, ["judge", "a"], None),
    ],
)
@pytest.mark.parametrize("task", ["pos", "hpos"])
def test_who_played_the_negative(
    tmp_path: Path, position: int, models: list[str], expected: tuple[str, str] | None, task: str
) -> None:
    """The stored episode tells, from the row's own side; without it nobody knows."""
    rows = [row(position)]
    assert load(tmp_path, rows, task, stored(models=models))[0][0].models == expected
    (tmp_path / "other").mkdir()
    assert load(tmp_path / "other", rows, task)[0][0].models is None


@pytest.mark.parametrize(
    ("models", "partner", "is_self_chat", "expected"),
    [
        (None, "x", False, True),
        (None, "x", True, True),
        (("a", "b"), "b", False, True),
        (("a", "custom/b"), "custom/b@http://moved/v1", False, True),
        (("a", "b"), "x", False, False),
        (("a", "b"), "b", True, False),
        (("a", "a"), "new", True, True),
        (("a", "a"), "a", False, False),
    ],
)
def test_a_negative_is_with_a_partner(models: Any, partner: str, is_self_chat: bool, expected: bool) -> None:
    """The agent may be a newer one, the partner not; in self-chat both are."""
    assert Origin(Combo("e0", ("p0", "p1")), 0, "S", models=models).is_with(partner, is_self_chat) is expected
