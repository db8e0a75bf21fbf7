"""`sotopia benchmark` as a process against the scripted server: finished, killed, interrupted, and refused in one line."""

import json
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from running import Command, Server, serving

from sotopia_sdpo.account import ACCOUNT, Missed, read_account


def asked(server: Server, *more: str, model: str = "alpha", partner: str = "alpha") -> list[str]:
    """Write the options of a run on the demo world."""
    models = ["--models", server.model(model), "--partner-model", server.model(partner)]
    return ["benchmark", *models, "--evaluator-model", server.model("judge"), "--demo", *more]


def episodes(tmp_path: Path) -> Counter[str]:
    """Count the stored episodes by status, behind the back of our own code."""
    path = tmp_path / "home" / "sotopia.db"
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute("SELECT status, COUNT(*) FROM episodes GROUP BY status").fetchall()
        except sqlite3.OperationalError:  # just being made
            return Counter()
    return Counter(dict(rows))


def test_help_loads_nothing_that_takes_long(sotopia: Command) -> None:
    shown = sotopia("benchmark", "--help", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.err.splitlines()}
    assert shown.code == 0 and {"typer", "sotopia_sdpo"} <= loaded
    assert not loaded & {"aiohttp", "litellm", "numpy", "openai", "redis", "sotopia", "torch"}
    for option in (
        "--models",
        "--partner-model",
        "--evaluator-model",
        "--batch-size",
        "--task",
        "--dry-run",
        "--requests-per-minute",
    ):
        assert option in shown.out
    for command in ("db", "evaluate", "compare", "simulate", "install"):
        assert command in sotopia("--help").out


def test_a_run_its_results_and_what_follows(inside: Command, server: Server, tmp_path: Path) -> None:
    """8 test scenarios x 5 combos, both roles: 80 episodes; then compare, evaluate, show, JSONL from the same data."""
    first = inside(*asked(server, "--task", "all", partner="beta"))
    assert first.code == 0, first.err
    assert "80 of 80 episodes scored" in first.err and "mean nothing about real social skill" in first.out
    assert episodes(tmp_path) == {"scored": 80}
    before = server.stats()["requests"]
    again = inside(*asked(server, "--task", "all", "--output-to-jsonl", "--save-dir", "out", partner="beta"))
    assert again.code == 0 and again.out.startswith(first.out) and server.stats()["requests"] == before
    rows = [json.loads(line) for line in (tmp_path / "out" / "models_vs_beta.jsonl").read_text().splitlines()]
    columns = [
        "SOC [-10, 0]",
        "SEC [-10, 0]",
        "FIN [-5, 5]",
        "REL [-5, 5]",
        "KNO [0, 10]",
        "GOAL [0, 10]",
        "BEL [0, 10]",
    ]
    assert list(rows[0])[:8] == ["model_name", *columns] and (tmp_path / "out" / "models_vs_beta_hard.jsonl").exists()
    second = inside(*asked(server, "--task", "all", "--tag", "other", model="gamma", partner="beta"))
    assert second.code == 0, second.err
    tag = f"benchmark_{server.model('alpha')}_{server.model('beta')}_{server.model('judge')}_all_trial0"
    compared = inside("compare", tag, "other", "--splits", str(tmp_path / "none.json"))
    assert compared.code == 2 and "none.json: cannot be read" in compared.err
    compared = inside("compare", tag, "other")
    assert compared.code == 0 and "all: 80 combos that both have" in compared.out
    judged = inside("evaluate", "--tag", "other", "--evaluator-model", server.model("stern"))
    assert judged.code == 0 and f"other_by_{server.model('stern')}" in judged.out
    assert episodes(tmp_path) == {"scored": 240}
    refused = inside(*asked(server, "--task", "all", "--temperature", "0.2", partner="beta"))
    assert refused.code == 2 and "temperature 0.7, this command 0.2" in refused.err


def test_killed_again_and_again_nothing_is_lost_or_doubled(
    sotopia: Command, start, rough_server: Server, tmp_path: Path
) -> None:
    command = asked(rough_server, "--task", "sft", "--timeout", "5", "--limit", "30")
    seen = []
    for share in (0.1, 0.5):
        process = start(*command, "--batch-size", "3")
        deadline = time.monotonic() + 90
        while sum(episodes(tmp_path).values()) < share * 30 and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.kill()
        process.wait()
        seen.append(episodes(tmp_path)["scored"])
    assert 0 < seen[0] <= seen[1] < 30
    last = sotopia(*command, "--batch-size", "3")
    assert last.code == 0, last.err
    assert f"{seen[1]} done before" in last.err and episodes(tmp_path) == {"scored": 30}


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(start, tmp_path: Path) -> None:
    with serving("--latency-ms", "100") as slow:
        process = start(*asked(slow, "--task", "sft", "--batch-size", "4"))
        deadline = time.monotonic() + 90
        while not episodes(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "run the same command again to go on" in err and "Traceback" not in err
    with sqlite3.connect(tmp_path / "home" / "sotopia.db") as connection:
        # What the tag's episodes agree in is held until it runs out, since others may go on with it.
        assert connection.execute("SELECT tag FROM claims WHERE combo != ''").fetchall() == []


def test_what_failed_is_counted_and_taken_up_again(
    inside: Command, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that gives no usable verdict leaves sessions unscored; a server without it takes them up."""
    account = tmp_path / "account.json"
    monkeypatch.setenv(ACCOUNT, str(account))
    with serving("--rate-out-of-range", "1") as harsh:
        models = ["--models", server.model("alpha"), "--partner-model", server.model("alpha"), "--tag", "t"]
        common = ["benchmark", *models, "--demo", "--task", "hard", "--limit", "6"]
        first = inside(*common, "--evaluator-model", harsh.model("judge"))
        assert first.code == 3 and "6 unscored" in first.err and "expected an integer from" in first.err
        assert episodes(tmp_path) == {"unscored": 6}
        assert (missed := read_account(account)) and missed[:3] == (6, 6, "episodes") and "expected" in missed.reason
        assert missed.unscored == 6 and not missed.is_stopped
        asked_before = server.stats()["requests"]
    second = inside(*common, "--evaluator-model", server.model("judge"))
    assert read_account(account) == Missed(0, 6, "episodes")
    assert second.code == 0 and "6 only to be judged" in second.err and episodes(tmp_path) == {"scored": 6}
    assert server.stats()["requests"] - asked_before <= 6 + 2  # one verdict each, and the probes


@pytest.mark.parametrize(
    ("options", "model", "fault"),
    [
        ((), "custom/m@http://127.0.0.1:9/v1/", "no connection to http://127.0.0.1:9/v1"),
        (("--api-key", "secret"), "", "the key is refused (status 401"),
        (("--only-model", "judge"), "", "no model 'alpha' there; the server has judge"),
    ],
)
def test_what_cannot_work_is_found_by_the_probe(
    sotopia: Command, tmp_path: Path, options: tuple[str, ...], model: str, fault: str
) -> None:
    with serving(*options) as other:
        model = model or other.model("alpha")
        models = ["--models", model, "--partner-model", model, "--evaluator-model", other.model("judge")]
        found = sotopia("benchmark", *models, "--demo", "--task", "hard")
    assert found.code == 2 and fault in found.err and not (tmp_path / "home").exists()
    assert found.err.count("error:") == 1 and "Traceback" not in found.err and "key-of-the-test" not in found.err


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--task", "hard"], "db import"),
        (["--task", "best", "--demo"], "'best' is not a task; expected one of sft, neg, pos, hpos, all, hard"),
        (["--task", "pos", "--demo"], "negative_combos.json is not there; data_filtering_negative.py writes it"),
        (["--demo", "--prompt-template", "no.txt"], "no.txt: cannot be read as a prompt template"),
        (["--demo", "--splits", "no.json"], "no.json: cannot be read (No such file"),
        (["--demo", "--db", "mysql://x"], "expected sqlite:///PATH or redis://HOST:PORT/N"),
        (["--demo", "--models", "a", "--models", "b", "--tag", "t"], "--tag names one run"),
        (["--demo", "--models", "custom/a"], "custom/a: no address"),
        (["--demo", "--models", "custom/a@http://u:pw@h/v1"], "holds a key; put it into CUSTOM_API_KEY"),
    ],
)
def test_wrong_input_is_one_line(sotopia: Command, tmp_path: Path, arguments: list[str], fault: str) -> None:
    found = sotopia("benchmark", "--partner-model", "m", "--evaluator-model", "e", *arguments)
    assert found.code == 2 and fault in found.err and found.err.count("\n") == 1, found.err
    assert "pw" not in found.err and not (tmp_path / "home").exists()


def test_a_refusal_in_a_new_home_names_the_database_that_is_meant(sotopia: Command, tmp_path: Path) -> None:
    """A world that is only tried out lies in a temporary database, of which nobody need know."""
    turns = [{"from": "human", "value": "You are Ann."}, {"from": "gpt", "value": 'x "no" y'}]
    row = {"conversations": turns, "env": "demo-env-21", "agents": ["demo-agent-02", "demo-agent-07"], "idx": 0}
    (tmp_path / "negative_data_error.json").write_text(json.dumps([{**row, "location": 1}]))
    found = sotopia("benchmark", "--demo", "--task", "hpos", "--data-dir", str(tmp_path), "--models", "gpt-4o")
    assert found.code == 2 and f"sqlite:///{tmp_path}/sotopia.db has no scored session of task neg" in found.err
    assert not (tmp_path / "sotopia.db").exists()


def test_a_dry_run_calls_and_writes_nothing(sotopia: Command, tmp_path: Path) -> None:
    models = ["--models", "custom/a@http://127.0.0.1:9/v1", "--partner-model", "gpt-4o", "--evaluator-model", "gpt-4o"]
    found = sotopia("benchmark", *models, "--demo", "--task", "neg", "--dry-run")
    assert found.code == 0 and "80 episodes" in found.out, found.err
    assert "gpt-4o: 640 calls" in found.out and "$" in found.out and not (tmp_path / "home").exists()


def test_results_of_runs_that_are_not_there(sotopia: Command, server: Server) -> None:
    assert sotopia(*asked(server, "--dry-run")).code == 0
    found = sotopia("benchmark", "--models", "gpt-4o", "--only-show-performance")
    assert found.code == 2 and "there is no database here" in found.err


def test_several_endpoints_and_an_old_server(inside: Command, tmp_path: Path) -> None:
    """Two endpoints share the calls; a server that knows no response_format is asked without it."""
    with serving() as one, serving("--refuse-response-format") as two:
        model = f"custom/alpha@{one.url}/,{two.url}/"
        judge = one.model("judge")
        found = inside("benchmark", "--models", model, "--partner-model", model, "--evaluator-model", judge, "--demo")
        assert found.code == 0, found.err
        share = two.stats()["answers"] / (one.stats()["answers"] + two.stats()["answers"])
    assert 0.3 < share < 0.6 and "the server refuses response_format; going on without" in found.err
    tag = f"benchmark_custom/alpha_custom/alpha_{judge}_hard_trial0"
    assert tag in inside("db", "info").out.replace("\n", "") and episodes(tmp_path) == {"scored": 15}


def test_openai_names_go_to_the_base_url(inside: Command, server: Server, tmp_path: Path) -> None:
    """A plain name goes straight there, an `openai/` one with a provider's slash through litellm."""
    base = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-not-to-be-seen"}
    models = ["--models", "gpt-4o-mini", "--partner-model", "openai/org/model", "--evaluator-model", "gpt-4o"]
    found = inside("benchmark", *models, "--demo", "--limit", "4", **base)
    assert found.code == 0 and "4 of 4 episodes scored" in found.err, found.err
    assert "sk-not" not in found.err + found.out + (tmp_path / "home" / "sotopia.db").read_bytes().decode("latin-1")


def test_what_is_not_pushed_to_the_database(inside: Command, server: Server, tmp_path: Path) -> None:
    """Upstream's option: the results are shown, with those of before, and nothing is kept."""
    assert inside(*asked(server, "--limit", "2")).code == 0
    found = inside(*asked(server, "--limit", "3", "--no-push-to-db", "--no-output-to-jsonl"))
    assert found.code == 0 and "1 of 1 episodes scored" in found.err and "are not kept" in found.err, found.err
    assert "episodes                               3" in found.out and episodes(tmp_path) == {"scored": 2}
