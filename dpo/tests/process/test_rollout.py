"""`rollout.py` and the scripts after it on an environment: the whole chain on both stores, killed and gone on with,
replays that go another way, and a new environment made as CONTRIBUTING.md says.
"""

import json
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from reading import good, read, stored
from running import Command, Server, serving

from sotopia_sdpo.envs.game import Game
from sotopia_sdpo.envs.protocol import Quest
from sotopia_sdpo.envs.registry import ENVIRONMENTS, Row
from sotopia_sdpo.play.walk import messages_of, turn_of, walk_of
from sotopia_sdpo.store import open_store


ROOT = Path(__file__).resolve().parents[3]


def rollout(task: str, *more: str, model: str = "", env: str = "game") -> list[str]:
    """Write the command line."""
    return ["rollout", "--env", env, "--task", task, *(["--model", model] if model else []), *more]


def test_the_chain(inside: Command, server: Server, home: Path, db: str, tmp_path: Path) -> None:
    """Gold, negatives, located turns, both kinds of positives, pairs, segments, a report, an evaluation."""
    model, at = server.model("alpha"), ["--db", db]
    gold = good(inside(*rollout("sft", *at)))
    assert "60 of 60 episodes scored" in gold.err and "solved                              1.00" in gold.out
    good(inside("sft_data", *at))
    learned = read(home / "sft_data.json")
    assert len(learned) == 60 and {row["task"].split("/")[0] for row in learned} == {"chest", "lamp"}
    for row in learned:
        kind, variation = row["task"].split("/")
        said = [turn["value"] for turn in row["conversations"] if turn["from"] == "gpt"]
        assert said == list(Game().gold(Quest(kind, int(variation)))) and row["variation"] == int(variation) < 30
        assert row["outcomes"] == [{"name": "score", "value": 100, "low": 0, "high": 100}] and row["env"] == "game"

    good(inside(*rollout("neg", *at, model=model)))
    kept = good(inside("data_filtering_negative", *at))
    negatives = read(home / "negative_data.json")
    values = Counter(episode.outcome.value for episode in stored(db, "neg"))
    assert f"kept {len(negatives)} of 60 episodes" in kept.out and len(negatives) == 60 - values[100] > 0
    assert not (home / "negative_combos.json").exists()
    few = inside("data_filtering_negative", *at, "--below", "50", "--output", str(tmp_path / "few.json"))
    assert (few.code == 0) == (values[0] > 0), few.err
    good(inside("locate", "--model", model, *at))

    for task in ("hpos", "pos"):
        assert f"{5 * len(negatives)} episodes, 0 done before" in good(inside(*rollout(task, *at, model=model))).err
    first = {episode.pk: walk_of(episode.messages) for episode in stored(db, "neg")}
    for episode in stored(db, "hpos"):
        assert episode.location is not None and episode.source_episode is not None
        turn = turn_of(episode.location)
        assert walk_of(episode.messages).before(turn) == first[episode.source_episode].before(turn)
    assert all(episode.location is None and episode.source_episode in first for episode in stored(db, "pos"))

    assert "mean gain 50.00" in good(inside("data_filtering_positive", *at)).out
    good(inside("data_filtering_positive", "--pairs", "eto", *at))
    for name in ("preference_data.json", "eto_data.json"):
        pairs = read(home / name)
        for worse, better in zip(pairs[::2], pairs[1::2], strict=True):
            assert (worse["side"], better["side"]) == ("negative", "positive") and worse["task"] == better["task"]
            assert worse["outcome_gains"] == better["outcome_gains"] == {"score": 50}
            start = worse.get("location", 1)
            assert worse["conversations"][:start] == better["conversations"][:start]
    good(inside("auto_tail", "--length", "2"))
    assert "score: mean 50.00 -> 100.00" in good(inside("report", "preference_data_auto.json")).out

    for name in ("alpha", "beta"):
        good(inside(*rollout("all", *at, "--tag", name, model=server.model(name))))
    compared = good(inside("sotopia", "compare", "alpha", "beta", *at))
    assert "all: 30 combos that both have" in compared.out and "solved" in compared.out
    before = server.stats()["requests"]
    again = good(inside(*rollout("all", *at, "--tag", "alpha", model=model)))
    assert "30 episodes, 30 done before" in again.err and server.stats()["requests"] == before
    judged = inside("sotopia", "evaluate", "--tag", "alpha", "--evaluator-model", model, *at)
    assert judged.code == 2 and "which has scored them itself" in judged.err

    exported = tmp_path / "episodes.jsonl"
    good(inside("sotopia", "db", "export", "--episodes", str(exported), *at))
    copy = f"sqlite:///{tmp_path}/copy.db"
    good(inside("sotopia", "db", "import", str(exported), "--db", copy))
    assert stored(copy, "hpos") == stored(db, "hpos") and "alpha" in inside("sotopia", "db", "info", "--db", copy).out


def count(home: Path) -> int:
    """Count the stored episodes, behind the back of our own code."""
    if not (home / "sotopia.db").exists():
        return 0
    with closing(sqlite3.connect(home / "sotopia.db")) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]
        except sqlite3.OperationalError:  # just being made
            return 0


def test_killed_and_gone_on_with(run: Command, start: Callable[..., Any], home: Path) -> None:
    """Two kills and a Ctrl-C; in the end all is there once, and the same as if nothing had happened."""
    with serving("--latency-ms", "30", "--exponential") as slow:
        command = rollout("neg", "--concurrency", "3", model=slow.model("alpha"))
        for number, share in ((signal.SIGKILL, 5), (signal.SIGINT, 20), (signal.SIGKILL, 30)):
            process = start(*command)
            deadline = time.monotonic() + 90
            while count(home) < share and time.monotonic() < deadline:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            assert "Traceback" not in err and process.returncode == (130 if number == signal.SIGINT else -number), err
        assert 30 <= count(home) < 60
        last = good(run(*command))
        assert f"{count(home)} episodes" in last.err and count(home) == 60
        other = good(run(*command, "--db", f"sqlite:///{home}/other.db"))
    assert "0 done before" in other.err
    found, same = stored(f"sqlite:///{home}/sotopia.db", "neg"), stored(f"sqlite:///{home}/other.db", "neg")
    assert [(e.key, e.messages, e.rewards) for e in found] == [(e.key, e.messages, e.rewards) for e in same]


def test_a_replay_that_goes_another_way_fails_with_its_step(inside: Command, server: Server, home: Path) -> None:
    """The stored first play is changed behind the scripts' back, as if the environment had changed since."""
    model, db = server.model("alpha"), f"sqlite:///{home}/sotopia.db"
    good(inside(*rollout("neg", model=model)))
    good(inside("data_filtering_negative", "--limit", "2"))
    rows = read(home / "negative_data.json")
    changed = rows[0]["episode"]
    with open_store(db) as store:
        episode = store.get_episode(changed)
        assert episode is not None
        walk = walk_of(episode.messages)
        told = tuple(text + " It rains." * (step == 1) for step, text in enumerate(walk.told))
        store.put_episode(episode.model_copy(update={"messages": messages_of(walk._replace(told=told))}))
    rows[0]["conversations"][2]["value"] += " It rains."
    (home / "negative_data_error.json").write_text(json.dumps([{**row, "location": 5} for row in rows]))
    found = inside(*rollout("hpos", "--trials", "1", model=model))
    assert found.code == 3 and "1 of 2 episodes scored, 0 unscored, 1 failed" in found.err
    assert "1 x the replay differs from the first play at step 1: 'It rains.' then, '' now" in found.err
    (failed,) = [one for one in stored(db, "hpos") if one.status == "failed"]
    assert failed.source_episode == changed and len(walk_of(failed.messages).actions) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (rollout("hard", model="m"), "--task 'hard' is no task of an environment; expected one of sft, neg, all, pos"),
        (rollout("neg"), "--task neg plays a model; name it with --model"),
        (rollout("sft", model="m"), "--task sft plays the gold actions; leave --model out"),
        (rollout("pos", "--split", "dev", model="m"), "--split: task pos plays the negatives of negative_data.json"),
        (rollout("sft", "--split", "mine"), "--split 'mine': expected one of train, dev, test"),
        (rollout("sft", "--tasks-of", "chest,lam"), "no kind of quest is called 'lam'; did you mean 'lamp'?"),
        (rollout("sft", env="moon"), "--env 'moon' is not an environment; expected one of scienceworld, game"),
        (rollout("all", model="custom/m@http://127.0.0.1:9/v1"), "start the server or correct the address"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    inside: Command, home: Path, arguments: list[str], fault: str
) -> None:
    found = inside(*arguments)
    assert found.code == 2 and fault in found.err and not (home / "sotopia.db").exists()
    assert [line for line in found.err.splitlines() if line.startswith("error: ")] == found.err.splitlines()[-1:]


def test_a_dry_run_writes_nothing(inside: Command, home: Path) -> None:
    found = good(inside(*rollout("all", "--split", "dev", "--limit", "4", "--dry-run", model="custom/m@http://h/v1")))
    assert "4 x rollout_game_custom/m@http://h/v1_dev_all_trial0" in found.out and "at most 80 calls" in found.out
    assert not (home / "sotopia.db").exists()


RECIPE = re.compile(r"^\*\*An environment\*\* .*?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_a_new_environment_by_the_recipe(
    inside: Command, server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class of CONTRIBUTING.md, as it stands there. The scripted server knows no doors: it says `ready`, three
    times an episode, and solves nothing.
    """
    found = RECIPE.search((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert found and found[1].count("\n") <= 60
    (tmp_path / "doors_of_the_recipe.py").write_text(found[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ENVIRONMENTS, "doors", Row("doors_of_the_recipe", "Doors"))
    gold = good(inside(*rollout("sft", env="doors")))
    assert (
        "opened                              1.00" in gold.out
        and "quests                                 4" in gold.out
    )
    good(inside("sft_data"))
    assert [len(row["conversations"]) for row in read(home / "sft_data.json")] == [2] * 4
    model = server.model("alpha")
    good(inside(*rollout("neg", env="doors", model=model)))
    assert "4 tasks, mean opened 0.00" in good(inside("data_filtering_negative")).out
    good(inside("locate", "--model", model))
    good(inside(*rollout("hpos", "--trials", "1", env="doors", model=model)))
    lost = inside("data_filtering_positive")
    assert lost.code == 2 and "4 with no" in lost.err and "rollout.py --task hpos" in lost.err


@pytest.mark.parametrize(
    ("script", "arguments", "fault"),
    [
        ("data_filtering_negative", ("--max-goal", "3"), "--max-goal is for sessions of SOTOPIA"),
        (
            "data_filtering_negative",
            ("--below", "9", "--at-most", "9"),
            "expected --below NUMBER or --at-most NUMBER for",
        ),
        ("data_filtering_negative", ("--outcome", "luck"), "no record has the outcome 'luck'; there are score"),
        ("data_filtering_negative", ("--below", "0"), "no negative is left: kept 0 of 4 episodes"),
        ("sft_data", ("--tag", "t", "--min-goal", "3"), "--min-goal is for sessions of SOTOPIA"),
        ("sft_data", ("--tag", "t", "--tag", "t_neg_trial0"), "the episodes are of game, SOTOPIA; choose with"),
    ],
)
def test_a_filter_that_does_not_fit_is_one_line(
    inside: Command, tiny: Path, script: str, arguments: tuple[str, ...], fault: str
) -> None:
    """The database holds sessions of SOTOPIA too."""
    db = f"sqlite:///{tiny}/sotopia.db"
    with open_store(db) as store:
        sotopia = next(iter(store.episodes()))
        store.put_episode(sotopia.model_copy(update={"pk": "S", "tag": "t_neg_trial0"}))
    good(inside(*rollout("sft", "--limit", "4", "--tag", "t")))
    named = () if "--tag" in arguments else ("--tag", "t")
    found = inside(script, *named, *arguments)
    assert found.code == 2 and fault in found.err and found.err.count("\n") == 1
