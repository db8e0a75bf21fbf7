"""Turns located by replay: values against a player who can be reckoned with, both stores, kills, nothing played twice."""

import json
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
from sotopia_sdpo.pairs import continuations
from sotopia_sdpo.play.rollout import Choose
from sotopia_sdpo.play.walk import Walk, chat_of, turn_of, walk_of
from sotopia_sdpo.run import rollouts
from sotopia_sdpo.simulated.player import game_of
from sotopia_sdpo.store import open_store


K = 8


def wasted_at(record: dict[str, Any]) -> int | None:
    """Return the number of the action that uses the tool up; None where none does."""
    game, (kind, variation) = Game(), record["task"].split("/")
    game.reset(Quest(kind, int(variation)))
    for number, turn in enumerate(turn for turn in record["conversations"] if turn["from"] == "gpt"):
        game.act(turn["value"])
        if game.is_wasted:
            return number
    return None


def seeded_player(of: int, seed: int) -> Choose:
    """Play right to the end; but one seed of so many gives the tool to a wrong thing."""

    async def choose(walk: Walk) -> str:
        game = game_of(chat_of(walk))
        assert game is not None
        action = game.right()
        is_last = action.startswith(game.words.verb) and seed % of == 1
        return action.replace(game.wanted, "red" if game.wanted != "red" else "blue") if is_last else action

    return choose


def prepare(inside: Command, model: str, *at: str) -> None:
    """Play negatives in the game."""
    good(inside("rollout", "--env", "game", "--task", "neg", "--model", model, *at))
    good(inside("data_filtering_negative", *at))


@pytest.mark.parametrize("of", [2, 10**12], ids=["every other seed errs", "no seed errs"])
def test_values_and_turn_are_right(
    inside: Command, server: Server, home: Path, db: str, monkeypatch: pytest.MonkeyPatch, of: int
) -> None:
    """Before the tool is wasted a point is worth 100 or 50 a continuation, by its seed; after it 50, all the same."""
    model, at = server.model("alpha"), ("--db", db)
    prepare(inside, model, *at)
    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "asking", lambda client, player, seed, *_: seeded_player(of, seed))
        patch.setattr(continuations, "probe", lambda *_: None)
        found = good(inside("locate", "--by", "replay", "--rollouts", str(K), "--model", model, *at))
    seeds = {(one.source_episode, one.location, one.trial): one.seed for one in stored(db, "hpos")}
    located = read(home / "negative_data_error.json")
    assert f"kept {len(located)} of" in found.out and len(located) > 4
    for record in located:
        wasted, turn = wasted_at(record), turn_of(record["location"])
        assert wasted is not None and (turn == wasted or of == 2)
        for value in record["values"][:-1]:
            place = record["episode"], 1 + 2 * value["turns"]
            chosen = [seeds[*place, trial] % of == 1 for trial in range(value["continuations"])]
            expected = 50.0 if value["turns"] > wasted else 100 - 50 * sum(chosen) / len(chosen)
            assert value["value"] == pytest.approx(expected, abs=1e-3)
        assert record["values"][-1] == {"turns": len(record["conversations"]) // 2, "value": 50, "continuations": 0}
        values = {value["turns"]: value["value"] for value in record["values"]}
        falls = {point: values[point] - values[point + 1] for point in values if point + 1 in values}
        assert falls[turn] == max(falls.values()) > 0
        assert f"from {values[turn]:.2f} to {values[turn + 1]:.2f} after this turn, K = 8" in record["reason"]
    whole = K * sum(len(record["conversations"]) // 2 for record in located)
    assert f"continuations: {len(seeds):,}," in found.out and len(seeds) < whole * 2 / 3
    assert f"all points would take {whole:,} continuations" in found.out


def test_continuations_are_the_episodes_of_hpos(inside: Command, server: Server, home: Path) -> None:
    """`hpos` finds them stored and plays only the trials that are missing; both make the same positives."""
    model, db = server.model("alpha"), f"sqlite:///{home}/sotopia.db"
    prepare(inside, model)
    good(inside("locate", "--by", "replay", "--rollouts", "4", "--model", model))
    count, played = len(read(home / "negative_data_error.json")), stored(db, "hpos")
    good(
        inside("locate", "--by", "replay", "--rollouts", "2", "--model", model, "--tag", "short", "--max-actions", "9")
    )
    with open_store(db) as store:
        short = list(store.episodes("short"))
    assert short and all(one.settings["max_actions"] == 9 and one.settings["task"] == "hpos" for one in short)
    for one in short:
        assert one.location is not None
        assert len(walk_of(one.messages).actions) <= max(9, turn_of(one.location))
    with open_store(db) as store:
        store.delete_tag("short")
    good(inside("locate", "--by", "replay", "--rollouts", "4", "--model", model))
    before = server.stats()["requests"]
    again = good(inside("locate", "--by", "replay", "--rollouts", "4", "--model", model, "--env", "game"))
    assert server.stats()["requests"] - before == 1 and "episodes scored" not in again.err  # the probe
    hpos = ["rollout", "--env", "game", "--task", "hpos", "--model", model]
    assert f"{5 * count} episodes, {4 * count} done before" in good(inside(*hpos)).err
    assert len(stored(db, "hpos")) == len(played) + count
    good(inside("data_filtering_positive"))
    first = read(home / "preference_data.json")
    other = f"sqlite:///{home}/other.db"
    with open_store(db) as old, open_store(other) as new:
        new.put_entries(("episodes", episode) for episode in old.episodes() if episode.settings["task"] == "neg")
    good(inside(*hpos, "--db", other))
    good(inside("data_filtering_positive", "--db", other))
    assert read(home / "preference_data.json") == first


def episodes_in(home: Path) -> int:
    """Count the stored episodes of hpos, behind the back of our own code."""
    with closing(sqlite3.connect(home / "sotopia.db")) as connection:
        return connection.execute("SELECT COUNT(*) FROM episodes WHERE tag LIKE '%hpos%'").fetchone()[0]


def test_killed_and_gone_on_with(
    run: Command, inside: Command, start: Callable[..., Any], home: Path, server: Server
) -> None:
    """After two kills and a Ctrl-C the file is that of an undisturbed search, and no continuation was played twice."""
    prepare(inside, server.model("alpha"))
    with serving("--latency-ms", "30", "--exponential") as slow:
        command = ("locate", "--by", "replay", "--rollouts", "6", "--model", slow.model("alpha"))
        for number, share in ((signal.SIGKILL, 5), (signal.SIGINT, 40), (signal.SIGKILL, 80)):
            process = start(*command)
            deadline = time.monotonic() + 90
            while episodes_in(home) < share and time.monotonic() < deadline:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            assert "Traceback" not in err and process.returncode == (130 if number == signal.SIGINT else -number), err
            assert not (home / "negative_data_error.json").exists()
        good(run(*command))
    found, keys = read(home / "negative_data_error.json"), [one.key for one in stored(_db(home), "hpos")]
    assert len(set(keys)) == len(keys)
    other = f"sqlite:///{home}/other.db"
    with open_store(_db(home)) as old, open_store(other) as new:
        new.put_entries(("episodes", episode) for episode in old.episodes() if episode.settings["task"] == "neg")
    good(inside("locate", "--by", "replay", "--rollouts", "6", "--model", server.model("alpha"), "--db", other))
    assert read(home / "negative_data_error.json") == found
    assert Counter(one.combo for one in keys) == Counter(one.key.combo for one in stored(other, "hpos"))


def _db(home: Path) -> str:
    return f"sqlite:///{home}/sotopia.db"


def test_verdicts_of_a_model(inside: Command, server: Server, home: Path) -> None:
    """The scripted annotator knows no game and names the first turn; continuations say which one it was."""
    model = server.model("alpha")
    prepare(inside, model)
    found = good(inside("locate", "--model", model, "--verify", str(K), "--agent", model))
    located = read(home / "negative_data_error.json")
    kinds = Counter(record["verdict"] for record in located)
    assert f"named turns: {kinds['confirmed']} confirmed, {kinds['another turn']} another turn, " in found.out
    assert kinds["another turn"] > 3 and set(kinds) <= {"confirmed", "another turn"}
    assert f"kept {len(located)} of " in found.out
    for record in located:
        assert turn_of(record["location"]) == wasted_at(record)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--by", "replay", "--verify", "4"), "--verify is for an annotator, --by asks none; leave it out"),
        (("--by", "replay", "--dry-run"), "--dry-run is for an annotator, --by asks none; leave it out"),
        (("--verify", "4"), "--verify N and --agent MODEL go together"),
        (("--by", "replay", "--env", "moon"), "the records are of --env game, not moon"),
        (("--by", "replay", "--model", "custom/m@http://127.0.0.1:9/v1"), "start the server or correct the address"),
    ],
)
def test_wrong_input_is_one_line(
    inside: Command, server: Server, home: Path, arguments: tuple[str, ...], fault: str
) -> None:
    prepare(inside, server.model("alpha"))
    found = inside("locate", *arguments)
    assert found.code == 2 and fault in found.err and found.err.count("\n") == 1
    assert not (home / "negative_data_error.json").exists() and not stored(_db(home), "hpos")


def sessions(inside: Command, server: Server, *at: str) -> list[str]:
    """Sample negatives of the demo world, and give the options of who plays and judges."""
    agent, other = server.model("anna"), server.model("gpt")
    sampled = ["--demo", "--task", "neg", "--combos-per-env", "1", "--models", agent, "--partner-model", other]
    good(inside("sotopia", "benchmark", *sampled, "--evaluator-model", other, *at))
    good(inside("data_filtering_negative", "--limit", "5", *at))
    return ["--partner-model", other, "--evaluator-model", other, *at]


def test_sessions_of_sotopia(inside: Command, server: Server, home: Path, db: str) -> None:
    """Values are means of the stored goals, with a hundredth of the relationship; `hpos` takes the sessions over."""
    agent, at = server.model("anna"), ["--db", db]
    others = sessions(inside, server, *at)
    found = good(inside("locate", "--by", "replay", "--rollouts", "5", "--model", agent, *others))
    located, played = read(home / "negative_data_error.json"), stored(db, "hpos")
    scores = {
        (one.source_episode, one.agent_position, one.location, one.trial): one.rewards[one.agent_position or 0][1]
        for one in played
    }
    for record in located:
        place, falls = (record["episode"], record["agent_position"]), {}
        own = record["goal"] + record["relationship"] / 100
        assert record["values"][-1] == {"turns": len(record["conversations"]) // 2, "value": own, "continuations": 0}
        for value in record["values"][:-1]:
            chosen = [scores[*place, 1 + 2 * value["turns"], trial] for trial in range(value["continuations"])]
            mean = sum(score["goal"] + score["relationship"] / 100 for score in chosen) / len(chosen)
            assert value["value"] == pytest.approx(mean, abs=1e-4) and value["low"] < mean < value["high"]
        values = {value["turns"]: value["value"] for value in record["values"]}
        falls = {1 + 2 * point: values[point] - values[point + 1] for point in values if point + 1 in values}
        assert falls[record["location"]] == max(falls.values()) > 0
    assert f"continuations: {len(played)}, with " in found.out and "located turn" in found.out
    more = inside("sotopia", "benchmark", "--task", "hpos", "--models", agent, *others)
    assert f"{5 * len(located)} episodes, {5 * len(located)} done before" in good(more).err
    assert len(stored(db, "hpos")) == len(played)
    assert f"kept {5 * len(located)} of {len(played)} sessions" in inside("data_filtering_positive", *at).out


def test_sessions_with_another_partner_are_counted(inside: Command, server: Server, home: Path) -> None:
    """Whoever locates, the numbers add up to the negatives that came in."""
    agent, other = server.model("anna"), server.model("gpt")
    for partner in (other, agent):
        world = ["--demo", "--task", "neg", "--combos-per-env", "1", "--models", agent, "--partner-model", partner]
        good(inside("sotopia", "benchmark", *world, "--evaluator-model", other))
    good(inside("data_filtering_negative", "--limit", "8"))
    rows = read(home / "negative_data.json")
    strange = sum(row["partner_model"] == row["agent_model"] for row in rows)
    assert 0 < strange < len(rows)
    who = ["--partner-model", other, "--evaluator-model", other]
    for how in (["--by", "replay", "--rollouts", "2", "--model", agent], ["--verify", "2", "--agent", agent]):
        found = inside("locate", *how, *([] if "--by" in how else ["--model", other]), *who)
        assert found.code in (0, 3), found.err
        assert f" of {len(rows)} negatives" in found.out and f"{strange} with another partner" in found.out


def test_sessions_need_partner_and_judge(inside: Command, server: Server, home: Path) -> None:
    agent = server.model("anna")
    others = sessions(inside, server)
    alone = inside("locate", "--by", "replay", "--model", agent)
    assert alone.code == 2 and "are continued with --partner-model and scored by --evaluator-model" in alone.err
    wrong = inside("locate", "--by", "replay", "--model", agent, "--env", "game", *others)
    assert wrong.code == 2 and "the records are sessions of SOTOPIA; leave --env out" in wrong.err
    assert not stored(_db(home), "hpos")


def test_segments_end_where_the_value_is_regained(
    inside: Command, server: Server, home: Path, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For who always plays right, a walk with the tool unspent is as good as won: segments end with the first turn."""
    model, at = server.model("alpha"), ["--db", db]
    prepare(inside, model, *at)
    good(inside("locate", "--by", "replay", "--rollouts", "6", "--model", model, *at))
    good(inside("data_filtering_positive", *at))
    tail = ("auto_tail", "--by", "replay", "--rollouts", "4", "--model", model, *at)
    found = good(inside(*tail))
    cut, pairs = read(home / "preference_data_auto.json"), read(home / "preference_data.json")
    values = {
        (one.source_episode, one.location, one.trial): one.outcome.value
        for one in stored(db, "hpos")
        if one.location is not None
    }
    for number, (worse, better) in enumerate(zip(cut[::2], cut[1::2], strict=True)):
        (start, end), whole = better["segment"], pairs[2 * number + 1]["conversations"]
        assert worse["segment"] == better["segment"] and start % 2 == 1 and end % 2 == 0
        reached = [index for index in range(start + 2, len(whole), 2) if (better["episode"], index, 0) in values]
        means = {at: sum(values[better["episode"], at, trial] for trial in range(4)) / 4 for at in reached}
        # A point stands for the turns before it: the one at index end + 1 comes after the segment.
        assert all((mean >= 90) == (at > end) for at, mean in means.items()), (means, end)
        assert "after this turn, K = 4" in better["reason"] or "its last turn" in better["reason"]
    assert f"kept {len(cut) // 2} of {len(pairs) // 2} pairs" in found.out and "continuations: " in found.out
    assert good(inside(*tail)).out == found.out
    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "asking", lambda client, player, seed, *_: seeded_player(10**12, seed))
        patch.setattr(continuations, "probe", lambda *_: None)
        good(inside(*tail, "--tag", "right"))
    for side in read(home / "preference_data_auto.json"):
        assert side["segment"][1] == side["segment"][0] + 1 and "value is 100.00 of 100.00" in side["reason"]


def test_segments_of_sessions(inside: Command, server: Server, home: Path) -> None:
    agent = server.model("anna")
    others = sessions(inside, server)
    good(inside("locate", "--by", "replay", "--rollouts", "4", "--model", agent, *others))
    good(inside("data_filtering_positive"))
    good(inside("auto_tail", "--by", "replay", "--rollouts", "3", "--model", agent, *others))
    cut, pairs = read(home / "preference_data_auto.json"), read(home / "preference_data.json")
    scores = {
        (one.source_episode, one.location, one.trial): one.rewards[one.agent_position or 0][1]
        for one in stored(_db(home), "hpos")
    }
    assert len(cut) == len(pairs) > 2
    by_episode = {side["episode"]: side["conversations"] for side in pairs}
    for worse, better in zip(cut[::2], cut[1::2], strict=True):
        assert worse["segment"][0] == better["segment"][0]
        (_, end), own = better["segment"], better["goal"] + better["relationship"] / 100
        after = [scores.get((better["episode"], end + 1, trial)) for trial in range(3)]
        if "is over before" in better["reason"]:
            assert end == len(better["conversations"]) and worse["segment"][1] == len(by_episode[worse["episode"]])
        elif "K = 3" in better["reason"]:
            mean = sum(score["goal"] + score["relationship"] / 100 for score in after) / 3
            assert mean >= own - 1.01 and f"value is {mean:.2f} of {own:.2f}" in better["reason"]
    published = [{"conversations": side["conversations"]} for side in pairs]
    (home / "bare.json").write_text(json.dumps(published))
    bare = inside("auto_tail", "--by", "replay", "--model", agent, "--input", str(home / "bare.json"), *others)
    assert bare.code == 2 and "pairs in the published form name no episodes" in bare.err
