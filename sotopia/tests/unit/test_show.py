"""`sotopia show` and `sotopia runs`: what people see of an episode and of the runs, on any terminal."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len
from small_world import finished, make_run, small_store
from test_run_quests import episode_of, run_of
from typer.testing import CliRunner

from sotopia_sdpo.cli import app
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.judge.reasons import reasons_in
from sotopia_sdpo.pairs.runs import Wanted, choose_runs
from sotopia_sdpo.play.walk import Walk, messages_of
from sotopia_sdpo.run.plan import items_of_combos
from sotopia_sdpo.run.quests import items_of_quests
from sotopia_sdpo.show.runs import usage_of
from sotopia_sdpo.store.base import Store
from sotopia_sdpo.store.episode import Episode
from sotopia_sdpo.store.run_names import name_of_run
from sotopia_sdpo.world.combos import Combo


HEBREW, CONTROLS = "שלום, מה שלומך היום?", "\x1b[2J\u202egnp\u2066"
SAID = f'said: "{HEBREW} {CONTROLS} 晚上好 {"long " * 30}"'


def told(own: str, other: str) -> str:
    return (
        "\nHere is the context of this interaction:\nScenario: Two neighbours share one blanket.\n"
        f"Participants: Ann Lee and Ben Ray\n{own}'s background: {own} is a nurse.\n{other}'s background: Unknown\n"
        f"{own}'s goal: Get what {own} wants\n{other}'s goal: Unknown\nConversation Starts:\n"
    )


MESSAGES = [
    [
        ("Environment", "Ann Lee", told("Ann Lee", "Ben Ray")),
        ("Environment", "Ben Ray", told("Ben Ray", "Ann Lee")),
        ("Ann Lee", "Environment", SAID),
        ("Ben Ray", "Environment", "did nothing"),
    ],
    [("Ann Lee", "Environment", "did nothing"), ("Ben Ray", "Environment", "[action] takes the blanket")],
    [("Ann Lee", "Environment", "left the conversation"), ("Ben Ray", "Environment", "did nothing")],
]
REASONS = (
    "Environment comments: terminated: somebody left; \nAgent 1 comments:\ngoal: Ann got nothing,\nand left.\n"
    "relationship: It suffered.\nAgent 2 comments:\ngoal: Ben has it.\n"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SOTOPIA_DB", f"sqlite:///{tmp_path}/small.db")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return small_store(tmp_path)


def put_run(store: Store, goals: list[float], **changes: object) -> str:
    """Store a run with these goals, and return its name."""
    run = make_run(**changes)
    items = items_of_combos(run, [Combo(f"e{n}", ("p0", "p1")) for n in range(len(goals))])
    for item, goal in zip(items, goals, strict=True):
        episode = finished(item, goal=goal, reasoning=REASONS, created=datetime(2026, 1, 2, tzinfo=UTC))
        store.put_episode(episode.model_copy(update={"messages": MESSAGES}))
    return name_of_run(run.tags[0])


def printed(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def test_an_episode_whole(store: Store) -> None:
    text = printed("show", put_run(store, [7.0]))
    for part in (
        "episode 1 of 1: scored",
        "2026-01-02, judged by judge",
        "Two neighbours share one blanket.",
        "Background (hidden from Ben Ray): Ann Lee is a nurse.",
        "Goal (hidden from Ann Lee): Get what Ben Ray wants",
        "  1 Ann Lee\n",
        "  2 Ben Ray [action]\n    takes the blanket",
        "  3 Ann Lee leaves the conversation",
        "Scores of Ben Ray",
    ):
        assert part in text, part
    assert re.search(r"goal +7\.00  Ann got nothing,\n +and left\.", text)
    assert re.search(r"relationship +2\.00  It suffered\.", text)


def test_nothing_that_was_said_moves_the_screen_and_lines_fit(store: Store) -> None:
    text = printed("show", put_run(store, [7.0]))
    assert "\\x1b[2J\\u202egnp\\u2066" in text.replace("\n    ", "") and not set("\x1b\u202e\u2066") & set(text)
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    # Words of another direction stand on lines of their own, where they reorder nothing of ours.
    assert all(line.startswith("    ") for line in text.splitlines() if "שלום" in line)


def test_worst_and_best_and_numbers(store: Store) -> None:
    name = put_run(store, [7.0, 3.0, 9.0])
    assert re.search(r"goal +3\.00", printed("show", name, "--worst"))
    assert "episode 1 of 3 from the best" in printed("show", name, "--best")
    assert re.search(r"goal +7\.00", printed("show", name, "2", "--best"))
    assert printed("show", name, "1") == printed("show", name)
    assert printed("show", name, "2") != printed("show", name)


def test_mistakes_are_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    name = put_run(store, [7.0])
    for arguments, expected in (
        (["show", name, "2"], "has 1 episodes, found 2; give a number from 1 to 1"),
        (["show", "nobody"], "no episode has the tag 'nobody'"),
        (["show", name, "--worst", "--best"], "two ways to count"),
    ):
        out = printed(*arguments, code=2)
        assert expected in out and out.count("\n") == 1


def test_an_episode_of_an_environment(store: Store) -> None:
    (item,) = items_of_quests(run_of("all"), [Quest("chest", 1)])
    walk = Walk(("Open the chest. What do you do?", "It is locked.", "It opens."), ("open chest", "unlock\x07 chest"))
    store.put_episode(episode_of(item, 100).model_copy(update={"messages": messages_of(walk)}))
    text = printed("show", name_of_run(item.key.tag))
    for part in (
        "Open the chest.",
        "  1 open chest\n    It is locked.",
        "  2 unlock\\x07 chest\n    It opens.",
        "100 (0 to 100)",
    ):
        assert part in text, part


def test_an_episode_without_a_score_says_why(store: Store) -> None:
    (item,) = items_of_combos(make_run(), [Combo("e0", ("p0", "p1"))])
    store.put_episode(finished(item, status="failed"))
    text = printed("show", name_of_run(item.key.tag))
    assert ": failed" in text and "Why there is no score: because" in text and "(no text is stored)" in text
    assert "no episode of this run is scored" in printed("show", name_of_run(item.key.tag), "--best", code=2)


def test_runs_by_their_names(store: Store) -> None:
    """Goals 7, 3 and 8 in three scenarios: mean 6; margin 4.3027 * sqrt(14 / 9 * 3 / 2) = 6.57."""
    names = [put_run(store, [7.0, 3.0, 8.0]), put_run(store, [5.0], task="hard", tag="mine")]
    lines = printed("runs").splitlines()
    assert all(cell_len(line) <= 80 for line in lines[1:])
    shown = {line.split()[0]: line for line in lines[2:] if not line.startswith(" ")}
    assert set(shown) == set(names) and names[1] == "mine"
    assert shown[names[0]].split()[1:5] == ["3/3", "6.00", "±", "6.57"]
    assert "  2026-01-02, m with m, judged by judge" in lines


def test_an_empty_database_has_no_runs(store: Store) -> None:
    assert "no episodes" in printed("runs")


def test_tokens_and_money_are_known_or_not() -> None:
    part = {"calls": 1, "prompt_tokens": 10, "completion_tokens": 5, "cost": 0.5}

    def used(**usage: object) -> Episode:
        return Episode(environment="e", agents=["a"], messages=[], status="unscored", usage=usage)

    assert usage_of(used(agent=part, evaluator=part, seconds=3.0))[1:] == (20, 10, 1.0)
    assert usage_of(used(agent=part, evaluator={**part, "cost": None})).cost is None
    assert usage_of(used()).tokens is None


def test_colours_are_for_screens_and_go_with_no_color(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = put_run(store, [7.0])
    assert "\x1b[" not in printed("show", name)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m" in printed("show", name)
    monkeypatch.setenv("NO_COLOR", "1")
    # Bold and dim are no colours; no sequence sets one.
    assert not re.search(r"\x1b\[[\d;]*\b(3[0-7]|4[0-7]|38|48|9[0-7])\b[\d;]*m", printed("show", name))


def test_reasons_of_a_panel_come_after_the_judges_names() -> None:
    both = f"Judge x:\n{REASONS}\nJudge y:\n{REASONS}"
    first, second = reasons_in(both)
    assert [reason.strip() for reason in second["goal"]] == ["x: Ben has it.", "y: Ben has it."]
    assert first["relationship"] == ["x: It suffered.", "y: It suffered."]
    assert reasons_in("free text") == ({}, {})


def test_version_and_completion() -> None:
    assert re.fullmatch(r"sotopia-sdpo \S+ on sotopia \S+\n", printed("--version"))
    assert "--install-completion" in printed("--help")


def test_a_name_stands_for_a_tag_wherever_one_is_typed(store: Store, tmp_path: Path) -> None:
    name = put_run(store, [7.0, 3.0])
    beginning = name.rpartition("-")[0]
    put_run(store, [5.0, 9.0], tag="mine")
    assert "2 episodes -> " in printed("db", "export", "--tag", beginning, "--episodes", str(tmp_path / "out.jsonl"))
    said = printed("compare", beginning, "mine")
    assert f"  A = {beginning}\n  B = mine\n" in said and "all: 2 combos" in said
    assert [run.tag for run in choose_runs(store, "neg", Wanted(tags=(beginning, "mine")))][1] == "mine"
    assert f"no episode has the tag '{beginning}'" in printed("db", "delete", "--tag", beginning, code=2)
    assert printed("db", "delete", "--tag", name).startswith("2 episodes of benchmark_")
