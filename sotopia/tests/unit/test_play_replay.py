"""The rows that `pos` and `hpos` read: taken exactly, or refused with their number."""

import json
from collections.abc import Sequence
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


def messages_of(actions: Sequence[Action]) -> list[list[tuple[str, str, str]]]:
    """Write a session as the messages of a stored episode."""
    told = [("Environment", name, f"\n{text}\nConversation Starts:\n") for name, text in (("Ann", "a"), ("Bo", "b"))]
    messages: list[list[tuple[str, str, str]]] = [told]
    for turn, action in enumerate(actions):
        done = [("Ann", "Environment", "did nothing"), ("Bo", "Environment", "did nothing")]
        done[turn % 2] = (("Ann", "Bo")[turn % 2], "Environment", action.to_text())
        messages[-1] = messages[-1] + done
        messages.append([("Environment", name, "seen") for name in ("Ann", "Bo")])
    return messages


def stored(**changes: Any) -> Episode:
    """Make the episode that the rows come from."""
    fields = {"environment": "e0", "agents": ["p0", "p1"], "messages": messages_of(ACTIONS), "pk": "S"}
    fields["status"] = "unscored"
    return Episode(**{**fields, **changes})


def negative_episode(**changes: Any) -> Episode:
    """Make the same with scores: of self-chat, sampled for negatives."""
    rewards = [(1.0, {"goal": 3.0, "relationship": 1.0})] * 2
    scored = {"status": "scored", "rewards": rewards, "models": ["judge", "a", "a"], "tag": "t_neg_trial0"}
    return stored(**{**scored, **changes})


def load(tmp_path: Path, rows: Any, task: str = "hpos", episode: Any = None) -> tuple[list[Origin], int]:
    """Write a file and read it."""
    store = small_store(tmp_path)
    for one in [episode] if isinstance(episode, Episode) else episode or ():
        store.put_episode(one)
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
        ({"conversations": [{"from": "human", "value": None}]}, "turn 0 has the value 'None', expected a text"),
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
    origins, repeated = load(tmp_path, rows, "pos", negative_episode())
    assert repeated == 1 and [(o.agent_position, o.episode) for o in origins] == [(1, "S"), (0, "S")]
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


# ---- files of the authors' scripts, which name no episode


def theirs(said: Sequence[Action] = ACTIONS, position: int = 0, location: int = 3) -> dict[str, Any]:
    """Make a row as the authors' locate.py writes it: an index on every turn, words that are not escaped."""
    dialogue = sharegpt_of(SESSION._replace(actions=tuple(said)), position, TEMPLATE)
    for turn, action in zip(dialogue[1:], said[position:], strict=False):
        turn["value"] = action.joined()
    turns = [{**turn, "index": index} for index, turn in enumerate(dialogue)]
    return {"conversations": turns, "env": "e0", "agents": ["p0", "p1"], "idx": position, "location": location}


@pytest.mark.parametrize(("position", "location", "turns"), [(0, 1, 0), (0, 5, 4), (1, 1, 1), (1, 3, 3)])
def test_a_row_without_episode_gets_the_one_that_fits(
    tmp_path: Path, position: int, location: int, turns: int
) -> None:
    other = negative_episode(pk="P", tag="t_hpos_trial0", source_episode="S", agent_position=0)
    (origin,), _ = load(tmp_path, [theirs(ACTIONS, position, location)], episode=[negative_episode(), other])
    assert (origin.episode, origin.models, origin.differs) == ("S", ("a", "a"), False)
    assert origin.history == ACTIONS[:turns] and origin.location == location


QUOTED = (Action("speak", 'You said "no".\nTwice.'), Action("action", "waves"), Action("none"), *ACTIONS[3:])


def test_of_several_sessions_the_dialogue_decides(tmp_path: Path) -> None:
    """The authors write what is not said as an action of that text, and escape nothing."""
    shown = [action if action.action_type != "none" else Action("action", "did nothing") for action in QUOTED]
    both = [negative_episode(), negative_episode(pk="Q", messages=messages_of(QUOTED), tag="u_neg_trial0")]
    (origin,), _ = load(tmp_path, [theirs(shown)], episode=both)
    assert (origin.episode, origin.history) == ("Q", QUOTED[:2])


def test_one_session_that_says_something_else_is_replayed_as_the_file_has_it(tmp_path: Path) -> None:
    (origin,), _ = load(tmp_path, [theirs(QUOTED)], episode=negative_episode())
    assert (origin.episode, origin.history, origin.differs) == ("S", QUOTED[:2], True)


def test_two_dialogues_of_one_session_are_not_played_for_one(tmp_path: Path) -> None:
    """Their sessions would have one key: all would be paid for, and those of the first alone stored."""
    with pytest.raises(
        UserError, match="record 1: it starts from the same turn of the same session as record 0, after"
    ):
        load(tmp_path, [theirs(), theirs(QUOTED)], episode=negative_episode())
    later = (*ACTIONS[:-1], Action("speak", "Other words at the end."))
    origins, repeated = load(tmp_path, [theirs(), theirs(later)], episode=negative_episode())
    assert (len(origins), repeated) == (1, 1)


TWO = [negative_episode(), negative_episode(pk="Q", tag="u_neg_trial0")]


@pytest.mark.parametrize(
    ("task", "episodes", "fault"),
    [
        ("pos", [], "it names no episode, and .* has no scored session of task neg with its scenario, characters"),
        ("hpos", [], "has no scored session of task neg"),
        ("pos", [stored()], "has no scored session"),
        ("pos", [negative_episode(tag="t_all_trial0")], "has no scored session"),
        ("pos", [negative_episode(models=["j", "b", "a"], tag="benchmark_a_b_j_neg_trial0")], "has no scored session"),
        ("pos", [negative_episode(agents=["p1", "p0"])], "has no scored session"),
        ("pos", TWO, r"2 sessions have its .* \(Q, S\): it may be that of 2; add .episode.: ID; fix it or rerun"),
        ("hpos", TWO, "it may be that of 2"),
        ("hpos", [TWO[0].model_copy(update={"messages": messages_of(ACTIONS[:4])}), TWO[1]], None),
        ("hpos", [one.model_copy(update={"messages": messages_of(QUOTED)}) for one in TWO], "is that of none"),
    ],
)
def test_a_row_that_fits_none_or_several_is_refused(
    tmp_path: Path, task: str, episodes: list[Episode], fault: str | None
) -> None:
    if fault is None:
        assert load(tmp_path, [theirs()], task, episodes)[0][0].episode == "Q"
        return
    with pytest.raises(UserError, match=f"record 0: .*{fault}"):
        load(tmp_path, [theirs()], task, episodes)
