"""The loop and the comparison to their ends, with training and serving replaced, under faults and kills.

Sampling, annotating and the scripts are the real ones. Training writes down what it was asked for; the agent is one of
the scripted characters. The demo as it is, is `bash dpo/demo.sh`.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DPO, command_of
from recheck import check
from running import environment


FAULTS = "--rate-429 0.025 --rate-500 0.025 --rate-drop 0.025 --rate-broken-json 0.025 --rate-annotation 0.1"
STEPS = 13
KILLED_IN = ("experts", "sft", "negatives", "locate", "positives", "segments", "sdpo_eval")
TIMEOUT_S = 1200


def start(folder: Path, name: str, **settings: str) -> "subprocess.Popen[bytes]":
    """Start demo.sh or compare.sh with settings of a test."""
    values = {"RUN": str(folder / "run"), "BASE": "none", "SFT_TRIALS": "1", "SIMULATE": FAULTS, **settings}
    # A file: what a killed script leaves behind would keep a pipe open.
    with (folder / "out").open("w") as out:
        command = [sys.executable, str(DPO / "tests" / "replaced.py"), name]
        return subprocess.Popen(command, env=environment(**values), cwd=folder, stdout=out, stderr=out)


@pytest.fixture
def script(tmp_path: Path):
    """Start demo.sh or compare.sh in the folder of a test."""
    return lambda name, **settings: start(tmp_path, name, **settings)


def finish(process: "subprocess.Popen[bytes]", tmp_path: Path, code: int = 0) -> str:
    try:
        ended = process.wait(TIMEOUT_S)
    finally:
        process.terminate()  # not left behind by a test that has waited long enough
    out = (tmp_path / "out").read_text()
    assert ended == code, out
    return out


def done_before(out: str) -> list[str]:
    """List the numbers of the steps that were not run."""
    return [line.split()[0] for line in out.splitlines() if "done before" in line]


def wait_for(log: Path, process: "subprocess.Popen[bytes]", since: float) -> None:
    """Wait until a step has begun, which is when its log is written anew, or the script has ended."""
    while process.poll() is None and not (log.exists() and log.stat().st_mtime >= since):
        time.sleep(0.02)


def test_the_loop_killed_again_and_again(script, tmp_path: Path) -> None:
    run, draw = tmp_path / "run", random.Random(5)
    for number, name in enumerate(KILLED_IN):
        since = time.time()
        process = script("demo")
        wait_for(run / "logs" / f"{name}.log", process, since)
        time.sleep(draw.random() * 0.7)
        process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3])
        process.wait(60)
    out = finish(script("demo"), tmp_path)
    assert "\nsft " in out and "\nsdpo " in out and "mean nothing about real social skill" in out
    assert re.search(r"locate the turns that went wrong +\S+ +\d+ of \d+ sides|locate .* done before", out), out
    assert re.search(r"13  evaluate it +\d+:\d\d  \d+ of \d+ episodes scored", out), out
    results = json.loads((run / "results.json").read_text())
    assert results["sft"]["goal"]["mean"] and results["sdpo"]["gain"]["goal"]
    assert (run / "preference_data_auto.html").exists()
    exported = tmp_path / "episodes.jsonl"
    command = command_of("sotopia", "db", "export", "--episodes", str(exported))
    subprocess.run(command, env=environment(SDPO_HOME=str(run)), check=True, capture_output=True)
    assert check(run, exported, cap=5) == []
    assert len(json.loads((run / "preference_data_auto.json").read_text())) > 20

    again = finish(script("demo"), tmp_path)
    assert again.count("done before") == STEPS
    changed = finish(script("demo", TRIALS="2"), tmp_path)
    assert done_before(changed) == list("12345678")

    out = finish(script("compare", TRIALS="2", ARMS="preferred_sft dmpo sdpo_3", SEEDS="1 2"), tmp_path)
    assert out.count("done before") == 10, out
    arms = json.loads((run / "compare.json").read_text())
    assert list(arms) == ["sft", "preferred_sft", "dmpo", "sdpo_3"]
    assert all(len(arm["goal_by_run"]) == 2 for arm in arms.values())
    trained = (run / "trained").read_text()
    for wanted in (
        r"sft\.yaml .*preferred_sft-2 seed=2 .*stage=sft dataset=positive_data",
        r"sdpo\.yaml .*dmpo-1 seed=1 .*stage=dmpo dataset=eto_data",
        rf"sdpo\.yaml .*sdpo_3-2 seed=2 .*stage=sdpo dataset=preference_data dataset_dir={re.escape(str(run))}/3",
    ):
        assert re.search(wanted, trained), wanted
    lengths = {
        name: {row["segment"][1] - row["segment"][0] for row in json.loads((run / name).read_text())}
        for name in ("3/preference_data_auto.json", "rest/preference_data_auto.json")
    }
    assert max(lengths["3/preference_data_auto.json"]) == 3 < max(lengths["rest/preference_data_auto.json"])

    fewer = finish(script("compare", TRIALS="2", ARMS="dmpo", SEEDS="2"), tmp_path)
    assert fewer.count("done before") == 17, fewer  # an arm depends on what is shared, and on no other arm


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the loop was run with little data of one's own, to its end."""
    folder = tmp_path_factory.mktemp("small")
    turns = [{"from": "human", "value": "You are Ann."}, {"from": "gpt", "value": "Hello."}]
    (folder / "mine.json").write_text(json.dumps([{"conversations": turns}]))
    for name in ("sft", "sdpo"):
        (folder / f"{name}.yaml").write_text("stage: sft\n")
    run_small(folder)
    return folder


def run_small(folder: Path, **more: str) -> list[str]:
    """Run it to its end, and list the steps that were done before."""
    settings = {
        "SFT_DATA": "mine.json",
        "PARTNER": "self",
        "NEG_COMBOS": "2",
        "TRIALS": "1",
        "SIMULATE": "",
        "LIMIT": "12",
    }
    configs = {"SFT_CONFIG": "sft.yaml", "SDPO_CONFIG": "sdpo.yaml"}
    return done_before(finish(start(folder, "demo", **settings, **configs, **more), folder))


def test_self_chat_from_sft_data_of_ones_own(small: Path, tmp_path: Path) -> None:
    """No expert is asked for SFT data, and both sides of a dialogue are the agent's."""
    run = small / "run"
    assert (run / "sft_data.json").read_text() == (small / "mine.json").read_text()
    assert "episodes" not in (run / "logs" / "experts.log").read_text()
    results = json.loads((run / "results.json").read_text())
    assert results["sft"]["goal"]["mean"] and results["sdpo"]["gain"]["goal"]
    exported = tmp_path / "episodes.jsonl"
    command = command_of("sotopia", "db", "export", "--episodes", str(exported))
    subprocess.run(command, env=environment(SDPO_HOME=str(run)), check=True, capture_output=True)
    models = [json.loads(line)["models"] for line in exported.read_text().splitlines()]
    assert models and all(first == second for _, first, second in models)


def test_a_second_round_of_sessions_goes_on_from_a_run_that_is_there(small: Path) -> None:
    run = small / "run"
    before = json.loads((run / "results.json").read_text())
    assert run_small(small, ROUNDS="2") == [str(number) for number in range(1, STEPS + 1)]
    arms = json.loads((run / "results.json").read_text())
    assert list(arms) == ["sft", "sdpo", "round-2"] and arms["sdpo"]["goal"] == before["sdpo"]["goal"]
    assert arms["round-2"]["gain"]
    found, mixed, old = (
        json.loads((run / name).read_text())
        for name in (
            "round-2/preference_data_auto.json",
            "round-2/preference_data_mixed.json",
            "preference_data_auto.json",
        )
    )
    places = {(row["env"], *row["agents"], row["agent_position"]) for row in found}
    kept = [row for row in old if (row["env"], *row["agents"], row["agent_position"]) not in places]
    assert mixed == found + kept
    assert (run / "answers.db").exists() and not list(run.glob("round-2/*.db"))
    trained = (run / "trained").read_text().splitlines()[-1]
    assert f"{run}/sdpo {run}/round-2/sdpo dataset=preference_data" in trained and "ref_model" not in trained
    assert trained.endswith(f"dataset_dir={run}/round-2")
    names = json.loads((run / "round-2" / "dataset_info.json").read_text())
    assert names["preference_data"]["file_name"] == "preference_data_mixed.json"


def test_what_a_change_of_a_file_does_again(small: Path) -> None:
    """Steps are numbered: 3 SFT data, 4 SFT, 7 filter, 9 positives, 10 pairs, 11 segments, 12 SDPO, 13 its evaluation."""
    run = small / "run"
    every = [str(number) for number in range(1, STEPS + 1)]
    assert run_small(small) == every

    (small / "sdpo.yaml").write_text("stage: sdpo\n")
    assert run_small(small) == every[:11]

    (run / "preference_data_auto.json").unlink()
    assert run_small(small) == every[:10] + every[11:]  # the answers are kept, so it is made as it was

    (run / "preference_data_auto.html").unlink()
    (run / "results.json").unlink()
    assert run_small(small) == every[:10] + every[11:]
    assert (run / "results.json").exists()

    edited = json.loads((run / "preference_data.json").read_text())[:-2]
    (run / "preference_data.json").write_text(json.dumps(edited))
    assert run_small(small) == every[:10]
    assert json.loads((run / "preference_data.json").read_text()) == edited

    (run / "sft" / "model.safetensors").unlink()
    assert run_small(small) == every[:3] + every[4:]  # the same model came out

    (small / "mine.json").write_text((small / "mine.json").read_text() + "\n")
    assert run_small(small) == every[:2]

    (run / "sotopia.db").unlink()
    assert run_small(small) == every[:4]


def test_an_unknown_arm_is_refused_before_anything(script, tmp_path: Path) -> None:
    assert "no arm is named kto" in finish(script("compare", ARMS="sdpo kto"), tmp_path, code=2)
    assert not (tmp_path / "run" / "logs" / "world.log").exists()


def test_another_script_at_work_here_is_refused(script, tmp_path: Path) -> None:
    first = script("demo")
    while not (tmp_path / "run" / "logs" / "experts.log").exists():
        time.sleep(0.05)
    assert "is at work here" in finish(script("compare"), tmp_path, code=2)
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait(60) == 143


def test_quests_of_an_environment(script, tmp_path: Path) -> None:
    """The environment scores and its gold actions teach, so nobody is asked; and an agent that is there is taken."""
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "model.safetensors").write_text("weights")
    quests = {"ENV": "game", "NEG_QUESTS": "20", "EVAL_QUESTS": "12", "TRIALS": "4"}
    out = finish(script("demo", **quests), tmp_path)
    assert re.search(r"\n +score  95 % interval", out) and re.search(r"\n +solved  95 % interval", out), out
    assert re.search(r"^13 steps; run folder: ", out) and "\nsdpo over sft: score " in out, out
    run = tmp_path / "run"
    trained = (run / "trained").read_text().splitlines()
    assert len(trained) == 2 and "dataset=sft_data" in trained[0] and "dataset=preference_data" in trained[1]
    pairs = json.loads((run / "preference_data_auto.json").read_text())
    assert (
        pairs
        and {pair["env"] for pair in pairs} == {"game"}
        and all("value is" in pair["reason"] for pair in pairs[1::2])
    )
    assert not list((run / "logs").glob("simulate*")) and not (run / "answers.db").exists()
    assert len(done_before(finish(script("demo", **quests), tmp_path))) == STEPS
    finish(
        script("compare", **quests, AGENT=str(agent), ARMS="sdpo eto", SEEDS="1", RUN=str(tmp_path / "other")),
        tmp_path,
    )
    trained = (tmp_path / "other" / "trained").read_text().splitlines()
    assert len(trained) == 2 and all(f" {agent} " in line for line in trained)


def test_rounds_killed_in_each_stop_where_nothing_is_gained(script, tmp_path: Path) -> None:
    """The agent is better in round 2, and in round 3 what it was; the evaluations are greedy, so this is certain."""
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "model.safetensors").write_text("weights")
    quests = {"ENV": "game", "TASKS_OF": "chest", "NEG_QUESTS": "30", "EVAL_QUESTS": "15", "TRIALS": "4"}
    rounds = {**quests, "AGENT": str(agent), "ROUNDS": "4", "REFERENCE": "sft", "SEED_OF_ROUND": "11 13"}
    run, draw = tmp_path / "run", random.Random(6)
    for number, name in enumerate(("locate", "negatives.2", "mix.2", "sdpo_eval.2", "segments.3")):
        since = time.time()
        process = script("demo", **rounds)
        wait_for(run / "logs" / f"{name}.log", process, since)
        time.sleep(draw.random() * 0.5)
        assert process.poll() is None, (tmp_path / "out").read_text()
        process.send_signal((signal.SIGKILL, signal.SIGTERM)[number % 2])
        process.wait(60)
    out = finish(script("demo", **rounds), tmp_path)
    gained, not_gained = re.findall(r"^round \d over round \d: .*$", out, re.M)
    assert re.fullmatch(r"round 2 over round 1: score \+[\d.]+, 95 % interval \[[\d.]+, [\d.]+\]", gained), out
    assert not_gained.startswith("round 3 over round 2: score +0.00, 95 % interval [0.00, 0.00]; no gain is shown"), (
        out
    )
    assert not (run / "round-4").exists()
    arms = json.loads((run / "results.json").read_text())
    assert list(arms) == ["sft", "sdpo", "round-2", "round-3"]
    assert arms["round-2"]["gain"]["score"]["low"] > 0 == arms["sdpo"]["gain"]["score"]["mean"]
    for folder in (run / "round-2", run / "round-3"):
        files = {path.name for path in folder.iterdir()}
        assert {"negative_data_error.json", "preference_data_auto.html", "preference_data_mixed.json", "sdpo"} <= files
    trained = [line.split() for line in (run / "trained").read_text().splitlines()]
    starts = {line[2].removeprefix(f"{run}/"): line[1].removeprefix(f"{run}/") for line in trained}
    assert starts == {"sdpo": str(agent), "round-2/sdpo": "sdpo", "round-3/sdpo": "round-2/sdpo"}
    assert [f"ref_model={agent}" in line for line in trained] == ["round-" in line[2] for line in trained]

    again = finish(script("demo", **{**rounds, "ROUNDS": "3"}, STOP_EARLY="no"), tmp_path)
    assert not re.search(r"\d+:\d\d", again) and "no gain is shown" not in again
