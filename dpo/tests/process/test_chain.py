"""The whole chain on scenarios that others wrote, with faults on: killed, gone on with, checked by independent code.

What is checked again is checked from the exported episodes alone (recheck.py). Where the published snapshot is not
beside the checkout, the demo world takes its place.
"""

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from recheck import check
from running import Command, Result, Server, serving


ROOT = Path(__file__).resolve().parents[3]
SNAPSHOT = ROOT.parent / "shared" / "data" / "rdb" / "sotopia_pi.rdb"
FAULTS = ("429", "500", "drop", "broken-json")
STAGES = {"SFT-round-1": (0, 4), "dev-round-1": (4, 10), "selftrain-round-2": (10, 12)}
CONCURRENCY = 4


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server on which every fifth request goes wrong, and every third annotation is not what was asked for."""
    rates = [word for fault in FAULTS for word in (f"--rate-{fault}", "0.05")]
    with serving(*rates, "--rate-annotation", "0.35", "--latency-ms", "25", "--exponential") as found:
        yield found


@pytest.fixture
def world(inside: Command, tmp_path: Path) -> list[str]:
    """Fill the database, and give the options that name the scenarios."""
    if not SNAPSHOT.exists():
        return ["--demo"]
    assert inside("sotopia", "db", "import", str(SNAPSHOT)).code == 0
    exported = tmp_path / "profiles"
    assert inside("sotopia", "db", "export", "--profiles", str(exported)).code == 0
    (combos,) = exported.glob("*combo*")
    ids = sorted({json.loads(line)["env_id"] for line in combos.read_text().splitlines()})
    splits = {stage: ids[first:last] for stage, (first, last) in STAGES.items()}
    (tmp_path / "splits.json").write_text(json.dumps({**splits, "selftrain-round-3": [], "selftrain-round-4": []}))
    return ["--splits", str(tmp_path / "splits.json")]


def sample(inside: Command, server: Server, task: str, *more: str, partner: str = "anna") -> None:
    """Run `sotopia benchmark`, again as long as something failed."""
    models = ["--models", server.model("anna"), "--partner-model", server.model(partner)]
    command = ["benchmark", *models, "--evaluator-model", server.model("judge"), "--task", task, "--batch-size", "20"]
    for _ in range(4):
        found = inside("sotopia", *command, *more)
        if found.code != 3:
            break
    assert found.code == 0, found.err


def answers(home: Path) -> int:
    """Count the answers that are kept, behind the back of our own code."""
    path = home / "answers.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        except sqlite3.OperationalError:  # just being made
            return 0


def interrupted(
    start: Callable[..., object], run: Command, home: Path, name: str, *arguments: str
) -> tuple[Result, list[int]]:
    """Kill a script at random points, stop it politely at others, then let it finish; give what was kept each time."""
    rng, seen = random.Random(7), []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = start(name, *arguments)
        enough = answers(home) + rng.randrange(2, 9)
        deadline = time.monotonic() + 60
        while answers(home) < enough and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        if process.returncode != 0 and number != signal.SIGKILL:
            assert process.returncode in (130, 3) and "every answer is kept" in err, err
        seen.append(answers(home))
    return run(name, *arguments), seen


def numbers_add_up(out: str) -> None:
    """Check the counts of every summary line against their sum."""
    for line in out.splitlines():
        words = line.removeprefix("sessions: ").split()
        if words[:1] == ["kept"]:
            reasons = line.partition("(")[2].rpartition(")")[0]
            dropped = sum(int(part.split()[0]) for part in reasons.split(", ") if part)
            assert int(words[1]) + dropped == int(words[3]), line


def test_the_chain(
    inside: Command, run: Command, start: Callable[..., object], server: Server, world: list[str], home: Path
) -> None:
    sample(inside, server, "sft", *world, "--combos-per-env", "2")
    sample(inside, server, "neg", *world, "--combos-per-env", "4", "--limit", "24")
    sample(inside, server, "neg", *world, "--combos-per-env", "2", "--limit", "16", partner="bert")
    asked = ["--model", server.model("teacher"), "--concurrency", str(CONCURRENCY)]
    out = ""
    for name in ("sft_data", "data_filtering_negative"):
        done = inside(name)
        assert done.code == 0, done.err
        out += done.out

    located, seen = interrupted(start, run, home, "locate", *asked)
    assert located.code in (0, 3) and seen == sorted(seen) and 0 < seen[0] < seen[-1], located.err
    stats = server.stats()
    # Only a SIGKILL can lose an answer: one that had been sent when the process died.
    assert stats.get("annotations repeated", 0) <= 2 * CONCURRENCY and stats["annotations wrong"] > 5
    kept_after_stops = answers(home)
    again = run("locate", *asked)
    assert located.code == 3 or (again.code == 0 and answers(home) == kept_after_stops)

    for task, partner in (("hpos", "anna"), ("hpos", "bert"), ("pos", "anna"), ("pos", "bert")):
        sample(inside, server, task, "--trials", "2", partner=partner)
    for arguments in ((), ("--pairs", "eto")):
        done = inside("data_filtering_positive", *arguments)
        assert done.code == 0, done.err
        out += done.out
    cut, _ = interrupted(start, run, home, "auto_tail", *asked)
    assert cut.code in (0, 3), cut.err
    numbers_add_up(out + located.out + cut.out)

    assert inside("sotopia", "db", "export", "--episodes", str(home / "episodes.jsonl")).code == 0
    assert check(home, home / "episodes.jsonl", eto_any_difference=True) == []
    assert trains(home, "sdpo", "preference_data") == 0


def trains(home: Path, stage: str, name: str) -> int:
    """Train one step on what the scripts wrote, as the README says, but for the folder of the files."""
    registered = json.loads((ROOT / "LLaMA-Factory" / "data" / "dataset_info.json").read_text())
    for entry in registered.values():
        entry["file_name"] = Path(entry["file_name"]).name
    (home / "dataset_info.json").write_text(json.dumps(registered))
    config = ROOT / "LLaMA-Factory" / "examples" / "demo" / f"{stage}.yaml"
    options = [f"dataset_dir={home}", f"dataset={name}", f"output_dir={home / stage}", "max_steps=1"]
    return subprocess.run(["bash", str(ROOT / "train.sh"), str(config), *options], cwd=home).returncode


def test_a_polite_stop_pays_nothing_twice(
    inside: Command, run: Command, start: Callable[..., object], home: Path, tmp_path: Path
) -> None:
    """Every answer that was on its way when the signal came is waited for and kept."""
    with serving("--rate-annotation", "0.3", "--latency-ms", "120", "--exponential") as slow:
        sample(inside, slow, "neg", "--demo", "--limit", "16")
        assert inside("data_filtering_negative").code == 0
        asked = ["--model", slow.model("teacher"), "--concurrency", "3"]
        for _ in range(4):
            process = start("locate", *asked)
            enough = answers(home) + 3
            while answers(home) < enough and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
            assert process.returncode in (0, 130), err
        last = run("locate", *asked)
        assert last.code in (0, 3) and "paid before" in last.out, last.err
        assert slow.stats()["annotations repeated"] == 0 and answers(home) == slow.stats()["annotations"]
