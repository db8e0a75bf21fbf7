"""`sotopia compare A B --html`: which episodes stand beside each other, in which order, and what the page holds."""

import json
import re
from pathlib import Path

import pytest
from small_world import finished, make_run, small_store
from test_run_quests import episode_of, run_of
from test_show import MESSAGES, REASONS
from typer.testing import CliRunner

from sotopia_sdpo.cli import app
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.play.walk import Walk, messages_of
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.run.quests import items_of_quests
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.world.combos import Combo


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SOTOPIA_DB", f"sqlite:///{tmp_path}/small.db")
    monkeypatch.chdir(tmp_path)
    return small_store(tmp_path)


def put(store: Store, tag: str, goals: list[float], **changes: object) -> None:
    items = items_of_combos(make_run(tag=tag, **changes), [Combo(f"e{n}", ("p0", "p1")) for n in range(len(goals))])
    for item in items:
        goal = goals[int(item.combo.environment[1:])]
        episode = finished(item, goal=goal, reasoning=REASONS)
        store.put_episode(episode.model_copy(update={"messages": MESSAGES}))


def page_of(*arguments: str) -> tuple[str, dict[str, object]]:
    """What is printed, and the data of the page."""
    done = CliRunner().invoke(app, ["compare", *arguments, "--html", "page.html"])
    assert done.exit_code == 0, done.output
    found = re.search('<script id="data"[^>]*>(.*?)</script>', Path("page.html").read_text("utf-8"))
    return done.output, json.loads(found[1])


def test_what_both_have_stands_side_by_side_the_greatest_loss_first(store: Store) -> None:
    put(store, "A", [5.0, 5.0, 5.0, 9.0])
    put(store, "B", [7.0, 2.0, 5.0])
    said, page = page_of("A", "B")
    assert said.endswith("3 pairs of episodes, 1 episodes without one of the other run left out -> page.html\n")
    views = page["pairs"]
    assert [view["gains"]["goal"] for view in views] == [-3, 0, 2]
    assert [view["scores"]["goal"] for view in views] == [[5, 2], [5, 5], [5, 7]]
    assert (
        page["words"]["sides"] == ["A", "B"] and [chart["title"] for chart in page["histograms"]][0] == "B − A in goal"
    )
    first = views[0]
    assert first["names"] == ["Ann Lee", "Ben Ray"] and "Get what Ann Lee wants" in first["background"]
    assert [line[1:3] for line in first["sides"][0]] == [["agent", "speak"], ["partner", "action"], ["agent", "leave"]]
    assert first["reasons"][1][0] == ["goal", 2.0, "Ann got nothing,\nand left."]


def test_roles_are_kept_apart_unless_a_run_is_self_chat(store: Store) -> None:
    put(store, "A", [5.0], partner="x")
    put(store, "B", [6.0], partner="x")
    put(store, "self", [6.0])
    _, page = page_of("A", "B")
    assert [view["names"][0] for view in page["pairs"]] == ["Ann Lee", "Ben Ray"]
    said, page = page_of("A", "self")
    assert len(page["pairs"]) == 1 and "1 episodes without" in said


def test_quests_stand_side_by_side_too(store: Store) -> None:
    walk = Walk(("Open the chest.", "It is locked."), ("open chest",))
    for tag, score in (("A", 10), ("B", 100)):
        (item,) = items_of_quests(run_of("all", tag=tag), [Quest("chest", 1)])
        store.put_episode(episode_of(item, score).model_copy(update={"messages": messages_of(walk)}))
    said, page = page_of("A", "B")
    (view,) = page["pairs"]
    assert view["gains"] == {"score": 90, "solved": 1} and page["place"] == "task"
    assert [line[3] for line in view["sides"][1]] == ["Open the chest.", "open chest", "It is locked."]
    assert "B wins on score, ties half: 1.00 [0.03, 1.00]" in said


def test_mistakes_write_nothing(store: Store, tmp_path: Path) -> None:
    put(store, "A", [5.0])
    (tmp_path / "folder").mkdir()
    for arguments, expected in (
        (["A", "nobody"], "no episode has the tag 'nobody'"),
        (["A", "A", "--html", "folder"], "expected a file for the page, found a folder"),
        (["A", "A", "--html", "none/page.html"], "cannot be written"),
    ):
        done = CliRunner().invoke(app, ["compare", *arguments, "--html", *(arguments[3:] or ["page.html"])])
        assert done.exit_code == 2 and expected in done.output, done.output
    assert not (tmp_path / "page.html").exists()
