"""Which episodes of an environment a command runs: order, keys, tags, seeds, and the files of negatives."""

import json
from pathlib import Path
from typing import Any

import pytest

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.protocol import Opening, Quest
from sotopia_sdpo.errors import UserError
from sotopia_sdpo.llm.spec import parse_model
from sotopia_sdpo.play.walk import Walk, first_turn, messages_of, sharegpt_of
from sotopia_sdpo.rollout import _forecast
from sotopia_sdpo.run.plan import Plan, plan
from sotopia_sdpo.run.quests import (
    QuestItem,
    QuestRun,
    items_of_negatives,
    items_of_quests,
    kinds_of,
    quest_at,
    quests_of,
)
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.world.tasks import TASKS


WALK = Walk((first_turn(Opening("Do it.", "A hall."), "`go`"), "one", "two"), ("a", "b"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/quests.db")


def run_of(task: str = "neg", **changes: Any) -> QuestRun:
    model = None if task == "sft" else parse_model("custom/m@http://h/v1")
    split = {"sft": "train", "neg": "train", "all": "test"}.get(task)
    return QuestRun(**{"env": "game", "task": TASKS[task], "model": model, "split": split, **changes})


def episode_of(item: QuestItem, points: float = 50, **changes: Any) -> Episode:
    """Make the episode of an item, as if it had been played."""
    fields = {
        "environment": item.environment,
        "agents": ["Agent"],
        "tag": item.key.tag,
        "models": list(item.run.players),
        "messages": messages_of(WALK),
        "status": "scored",
        "rewards": [(points, {"score": points})],
        "settings": {**item.run.settings(), "outcome": {"name": "score", "low": 0, "high": 100}},
        "source_episode": item.source_episode,
        "agent_position": 0,
        "location": item.location,
        "trial": item.key.trial,
    }
    return Episode(**{**fields, **changes})


def test_the_first_quests_are_a_sample_of_all_kinds() -> None:
    """A limit of 6 over two kinds takes three of each; another seed takes others; all are there in the end."""
    found = quests_of(Game(), ["chest", "lamp"], "train", 0)
    assert [quest.kind for quest in found[:6]] == ["chest", "lamp"] * 3
    assert len(set(found)) == len(found) == 60
    other = quests_of(Game(), ["chest", "lamp"], "train", 1)
    assert set(other) == set(found) and other[:6] != found[:6]
    assert quests_of(Game(), ["lamp"], "train", 0) == found[1::2]


def test_kinds_are_those_typed_else_all() -> None:
    assert kinds_of(Game(), []) == ["chest", "lamp"] and kinds_of(Game(), ["lamp", "lamp"]) == ["lamp"]
    with pytest.raises(UserError, match="no kind of quest is called 'lam'; did you mean 'lamp'"):
        kinds_of(Game(), ["lam"])
    with pytest.raises(UserError, match="'xyzzy'; there are chest, lamp"):
        kinds_of(Game(), ["xyzzy"])


def test_tags_name_the_run_and_a_split_that_is_not_the_tasks_own() -> None:
    assert run_of("sft").tags == ["rollout_game_gold_sft_trial0"]
    name = "rollout_game_custom/m@http://h/v1"
    assert run_of("all", trials=2).tags == [f"{name}_all_trial0", f"{name}_all_trial1"]
    assert run_of("all", split="dev").tags == [f"{name}_dev_all_trial0"]
    assert run_of("hpos").tags == [f"{name}_hpos_trial0"] and run_of("all", tag="mine", trials=3).tags == ["mine"]


def test_an_episode_has_the_key_of_its_item_and_is_done_then(store: Store) -> None:
    items = items_of_quests(run_of(trials=2), [Quest("chest", 1), Quest("lamp", 2)])
    assert len({item.key for item in items}) == 4 and len({item.seed for item in items}) == 4
    done = episode_of(items[2])
    assert done.key == items[2].key and done.env == "game" and done.outcome.value == 50
    store.put_episode(done)
    found = plan(store, items)
    assert len(found.done) == 1 and [item.key for item in found.items] == [items[i].key for i in (0, 1, 3)]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"max_actions": 7}, "its episodes have max_actions 0, this command 7"),
        ({"temperature": 0.5}, "its episodes have temperature 0.0, this command 0.5"),
        ({"env_settings": {"simplifications": "easy"}}, ""),
        ({"model": parse_model("custom/other@http://h/v1")}, "its episodes are by custom/m"),
        ({"model": parse_model("custom/m@http://elsewhere/v1")}, ""),
    ],
)
def test_a_tag_holds_episodes_of_one_kind(store: Store, changes: dict[str, Any], fault: str) -> None:
    quests = [Quest("chest", 1)]
    store.put_episode(episode_of(*items_of_quests(run_of(tag="t"), quests)))
    items = items_of_quests(run_of(tag="t", **changes), quests)
    if fault:
        with pytest.raises(UserError, match=fault):
            plan(store, items)
    else:
        assert len(plan(store, items).done) == 1


@pytest.fixture
def negatives(store: Store, tmp_path: Path) -> list[dict[str, Any]]:
    """Two negatives that are stored, as records."""
    items = items_of_quests(run_of(), [Quest("chest", 1), Quest("lamp", 2)])
    rows = []
    for item in items:
        store.put_episode(episode_of(item))
        rows.append({"episode": item.key.pk, "conversations": sharegpt_of(WALK), "location": 3})
    return rows


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_replay_that_reaches_the_limit_asks_for_nothing() -> None:
    """At most one action: none is replayed here, and two there."""
    one, two = items_of_quests(run_of("hpos", max_actions=1), [Quest("chest", 0), Quest("chest", 1)])
    items = [one._replace(history=WALK.before(0)), two._replace(history=WALK)]
    assert _forecast(Plan(items, frozenset(), 0, 0))[-1].startswith("at most 1 calls")


def test_positives_start_from_the_stored_walk(store: Store, negatives: list[dict[str, Any]], tmp_path: Path) -> None:
    path = written(tmp_path, [*negatives, negatives[0]])
    found = items_of_negatives(run_of("hpos", trials=2), path, store, [])
    assert len(found) == 4 and {item.history for item in found} == {WALK.before(1)}
    assert [(item.source_episode, item.location) for item in found[::2]] == [(r["episode"], 3) for r in negatives]
    assert len({item.seed for item in found}) == 4
    assert episode_of(found[0]).key == found[0].key
    anew = items_of_negatives(run_of("pos"), path, store, ["lamp"])
    assert [(item.quest, item.location, item.history) for item in anew] == [(Quest("lamp", 2), None, None)]


def test_two_negatives_of_one_quest_draw_differently_from_one_point(store: Store, tmp_path: Path) -> None:
    """From the start, and from where they have gone the same way; elsewhere, and for the first, nothing is counted."""
    rows = []
    for trial in range(2):
        (item,) = items_of_quests(run_of(tag=f"t{trial}"), [Quest("chest", 1)])
        store.put_episode(episode_of(item))
        rows.append({"episode": item.key.pk, "conversations": sharegpt_of(WALK), "location": 3})
    path = written(tmp_path, [*rows, rows[1]])
    for task in ("pos", "hpos"):
        first, second = items_of_negatives(run_of(task), path, store, [])
        assert (first.repeat, second.repeat) == (0, 1) and first.seed != second.seed
        assert second._replace(repeat=0).seed == first.seed
    rows[1]["location"] = 1
    items = items_of_negatives(run_of("hpos"), written(tmp_path, rows), store, [])
    assert [item.repeat for item in items] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"episode": "nobody"}, "record 1: its episode 'nobody' is not in sqlite"),
        ({"episode": None}, "its episode None is not in"),
        ({"location": 2}, "location 2 is a 'human' turn"),
        ({"location": 9}, "location 9 is not in the dialogue of 4 turns"),
        ({"location": None}, "location or conversations is missing"),
        ({"conversations": [{"from": "gpt", "value": "x"}] * 4}, "the dialogue is not that of its episode"),
    ],
)
def test_a_wrong_record_is_named(
    store: Store, negatives: list[dict[str, Any]], tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    path = written(tmp_path, [negatives[0], {**negatives[1], **changes}])
    with pytest.raises(UserError, match=fault):
        items_of_negatives(run_of("hpos"), path, store, [])


def test_a_negative_of_another_environment_is_refused(
    store: Store, negatives: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="record 0: its episode is not one of --env scienceworld, but takes place at"):
        items_of_negatives(run_of("pos", env="scienceworld"), written(tmp_path, negatives), store, [])
    assert quest_at("game/a/b/12", "game") == Quest("a/b", 12)
