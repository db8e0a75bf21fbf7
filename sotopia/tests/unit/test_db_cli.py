"""`sotopia db` as a process: exit codes, what it prints, and how soon it answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from store_contract import TAG, make_episode

from sotopia_sdpo.db_cli import app
from sotopia_sdpo.store import open_store


PACKAGES = Path(__file__).resolve().parents[2]
SHARED = PACKAGES.parents[1] / "shared" / "data"
AGENT = {"agent_id": "a1", "first_name": "Ann", "last_name": "B"}


def environment():
    """Let a process find our packages, also where they are not installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(PACKAGES)])}


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder to stand in; the default database is in its data folder."""
    monkeypatch.delenv("SOTOPIA_DB", raising=False)
    monkeypatch.setenv("SDPO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def db(home, capsys):
    """Run `sotopia db ...` inside this process, which is quicker than one of its own."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        return Done(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def process(home):
    """Run `sotopia db ...` as a process."""

    def run(*arguments):
        command = [sys.executable, "-m", "sotopia_sdpo.db_cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def agents(tmp_path):
    """A file of one character."""
    path = tmp_path / "agents.jsonl"
    path.write_text(json.dumps(AGENT) + "\n")
    return path


def error_line(done):
    """Return the one line of a refused command."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


def test_import_info_export_delete(process, db, tmp_path, agents):
    """The whole way of a record, in the default database."""
    episodes = tmp_path / "episodes.jsonl"
    lines = [make_episode(n, status="failed" if n == 0 else "scored").model_dump_json() for n in range(3)]
    episodes.write_text("\n".join(lines) + "\n")
    done = process("import", agents, episodes)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"1 profiles and 3 episodes are new in sqlite:///{tmp_path}/home/sotopia.db" in done.stdout
    assert "0 profiles and 0 episodes are new" in db("import", agents, episodes).stdout

    info = process("info")
    assert (info.returncode, info.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in info.stdout.splitlines() if "│" in line]
    assert ["agents", "1"] in rows and [TAG, "2", "0", "1"] in rows

    done = process("export", "--episodes", "out.jsonl", "--profiles", "profiles", "--status", "scored")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 episodes -> out.jsonl" in done.stdout
    assert "1 profiles -> profiles/agent_profiles.jsonl" in done.stdout
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "profiles" / "agent_profiles.jsonl").read_text())["agent_id"] == "a1"

    done = process("delete", "--tag", TAG)
    assert (done.returncode, done.stdout) == (0, f"3 episodes of {TAG} deleted\n")
    assert "no episodes" in db("info").stdout


def test_where_the_database_is(db, tmp_path, agents, monkeypatch):
    """--db goes before SOTOPIA_DB, that before --data-dir, that before SDPO_HOME."""
    for place, arguments, variable in [
        ("a.db", ["--db", f"sqlite:///{tmp_path}/a.db"], "sqlite:///b.db"),
        ("b.db", [], "sqlite:///b.db"),
        ("c/sotopia.db", ["--data-dir", "c"], ""),
        ("home/sotopia.db", [], ""),
    ]:
        monkeypatch.setenv("SOTOPIA_DB", variable)
        assert not (tmp_path / place).exists()
        assert db("import", agents, *arguments).returncode == 0
        assert (tmp_path / place).exists()


def test_import_from_a_url(db, tmp_path, agents):
    db("import", agents)
    done = db("import", f"sqlite:///{tmp_path}/home/sotopia.db", "--db", "sqlite:///copy.db")
    assert "1 profiles and 0 episodes are new" in done.stdout
    with open_store(f"sqlite:///{tmp_path}/copy.db") as store:
        assert store.get_profile("agents", "a1")["first_name"] == "Ann"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info"], "there is no database here; `sotopia benchmark` or `sotopia db import FILE...` makes one"),
        (["export", "--episodes", "x"], "there is no database here"),
        (["delete", "--tag", "x"], "there is no database here"),
        (["export"], "nothing to export; say --episodes FILE.jsonl, --profiles DIR or both"),
        (["import", "nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
        (["import", "."], "Is a directory"),
        (["info", "--db", "redis://127.0.0.1:1/0"], "check the address and that the server runs"),
        (["info", "--db", "mysql://x"], "expected sqlite:///PATH or redis://HOST:PORT/N"),
        (["import", "redis://127.0.0.1:1/0"], "check the address and that the server runs"),
    ],
)
def test_refusals_are_one_line(db, arguments, message):
    assert message in error_line(db(*arguments))


@pytest.mark.parametrize("url", ["redis://:hunter22@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=hunter22"])
@pytest.mark.parametrize("place", ["option", "variable", "source"])
def test_a_password_is_in_no_output(db, monkeypatch, agents, url, place):
    if place == "variable":
        monkeypatch.setenv("SOTOPIA_DB", url)
    line = error_line(
        db("import", *([url] if place == "source" else [agents, "--db", url][: 1 if place == "variable" else 3]))
    )
    assert "redis://127.0.0.1:1/0: " in line and "hunter22" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "redis://:hunter22@h/0"],
        ["redis://h/0?password=hunter22"],
        ["delete", "--tag", "x", "redis:/:hunter22@h"],
    ],
)
def test_wrong_usage_shows_no_password(db, arguments):
    done = db(*arguments)
    assert done.returncode == 2 and "hunter22" not in done.stdout + done.stderr
    assert "unexpected extra argument" in done.stderr or "No such command" in done.stderr


def test_the_table_of_an_import_shows_no_password(db, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sotopia_sdpo.store.transfer.read_source", lambda source, _: iter([("agents", {"pk": source})])
    )
    done = db("import", "redis://:hunter22@h/0", "rediss://h/0?password=hunter22")
    assert done.returncode == 0 and "redis://h/0" in done.stdout and "hunter22" not in done.stdout


def test_a_bad_file_writes_nothing(db, tmp_path, agents):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(AGENT) + "\n" + '{"combo_id": "c", "env_id": "e", "agent_ids": []}\n')
    assert f"{bad} line 2: combo agent_ids" in error_line(db("import", agents, bad))
    done = db("info")
    assert done.returncode == 0 and "│ agents        │      0 │" in done.stdout


def test_an_unknown_tag_names_the_nearest(db, tmp_path):
    with open_store(f"sqlite:///{tmp_path}/home/sotopia.db") as store:
        store.put_episode(make_episode())
    for command in (["delete"], ["export", "--episodes", "out.jsonl"]):
        line = error_line(db(*command, "--tag", TAG.replace("trial0", "trial1")))
        assert f"did you mean '{TAG}'?" in line
    assert not (tmp_path / "out.jsonl").exists()


def test_a_hostile_or_endless_tag_is_shown_as_text(db, tmp_path):
    """Control characters are written out; a tag of a million characters takes one cell, and no time to compare."""
    tags = ["\x1b]52;c;ZXZpbA==\x07\x1b[2Jx", "x" * 1_000_000, "two\nlines"]
    with open_store(f"sqlite:///{tmp_path}/home/sotopia.db") as store:
        store.put_entries(("episodes", make_episode(tag=tag)) for tag in tags)
    done = db("info")
    assert done.returncode == 0 and "\x1b" not in done.stdout and len(done.stdout) < 5000
    assert r"\x1b]52;c;ZXZpbA==\x07\x1b[2Jx" in done.stdout and "two lines" in done.stdout
    assert len(error_line(db("delete", "--tag", "x" * 999_999))) < 2100
    done = db("delete", "--tag", tags[0])
    assert done.stdout == r"1 episodes of \x1b]52;c;ZXZpbA==\x07\x1b[2Jx deleted" + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["delete"],
        ["export", "--status", "good"],
        ["nothing"],
        ["info", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(db, arguments):
    assert db(*arguments).returncode == 2


@pytest.mark.parametrize("command", [None, "import", "export", "info", "delete"])
def test_help(process, command):
    arguments = [command, "--help"] if command else ["--help"]
    done = process(*arguments)
    assert done.returncode == 0 and "Usage" in done.stdout


def test_the_commands_module_loads_nothing_heavy():
    """Importing it must not bring in the host, pydantic, a database or numpy."""
    code = "import sys, sotopia_sdpo.db_cli; print([m for m in %r if m in sys.modules])"
    heavy = ["sotopia", "pydantic", "redis", "sqlite3", "numpy", "litellm", "torch"]
    command = [sys.executable, "-c", code % heavy]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here: published data are missing")
def test_the_published_data_at_once(db):
    """Four files and both snapshots in one import; the files and the first snapshot share 40 characters."""
    snapshots = [SHARED / "rdb" / name for name in ("redis_stack_7_4.rdb", "sotopia_pi.rdb")]
    files = sorted((SHARED / "sotopia").glob("*.jsonl")) + snapshots
    done = db("import", *files)
    assert (done.returncode, done.stderr) == (0, "")
    info = db("info").stdout
    cells = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in info.splitlines() if "│" in line}
    assert cells == {"environments": "508", "agents": "46", "relationships": "120", "combos": "2960"}
