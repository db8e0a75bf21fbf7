"""Databases on disks that are read-only or full: what was reported as stored is there, and one line says why.

Not covered: a disk that lies about what it has written, and media that vanish.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import environment


UNIT = Path(__file__).resolve().parents[1] / "unit"
TAG = "benchmark_m_p_e_all_trial0"
SHORT_S = 2.0
"""For how long a claim holds that a test waits for."""
WRITER = """
import sys
from store_contract import make_episode
from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.store import open_store

def write():
    with open_store(sys.argv[1]) as store:
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            episode = make_episode(number, reasoning="x" * 5000)
            if store.claim(episode.key, sys.argv[4], float(sys.argv[5])) and store.put_episode(episode, sys.argv[4]):
                print(number, flush=True)

sys.exit(run_at_edge(write))
"""

PAYER = """
import sys
from pathlib import Path
from sotopia_sdpo.errors import UserError, run_at_edge
from sotopia_sdpo.llm.answers import Answer
from sotopia_sdpo.llm.kept import Request
from sotopia_sdpo.llm.usage import Usage
from sotopia_sdpo.store import open_answers

def pay():
    with open_answers(Path(sys.argv[1])) as answers:
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            request = Request("m", [{"role": "user", "content": str(number)}], {})
            try:
                if answers.get(request) is None and answers.claim(request):
                    answers.put(request, Answer("x" * 20_000, Usage(1)))
                    print(number, flush=True)
            except UserError:
                answers.release(request)  # on a connection that has no transaction open any more
                raise

sys.exit(run_at_edge(pay))
"""


def start(*argv: str, before: str = ":", folder: Path) -> "subprocess.Popen[str]":
    """Start Python in a shell that runs something before, in which mounts of a folder are its own."""
    if "mount" in before and subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this system does not let a test mount")
    script = f'D="{folder}"; {before} && exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, *argv]
    env = environment(SDPO_HOME=str(folder), PYTHONPATH=os.pathsep.join([str(UNIT), str(UNIT.parents[1])]))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    return subprocess.Popen(["unshare", "-rm", *command] if "mount" in before else command, **pipes)


def run(*argv: str, before: str = ":", folder: Path) -> tuple[int, str, str]:
    """Run Python and return exit code, output and errors."""
    process = start(*argv, before=before, folder=folder)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def numbers(out: str) -> list[int]:
    """Read what a writer has reported as stored."""
    return [int(line) for line in out.splitlines()]


def writer(url: str, first: int, last: int, owner: str = "me", claim_s: float = 60.0) -> list[str]:
    return ["-c", WRITER, url, str(first), str(last), owner, str(claim_s)]


def stored(url: str, folder: Path) -> set[int]:
    """Read back the numbers of all episodes, whole."""
    exported = folder.parent / f"{folder.name}.jsonl"
    code, out, err = run("-m", "sotopia_sdpo", "db", "export", "--db", url, "--episodes", str(exported), folder=folder)
    assert code == 0, err
    code = "import json, sys; print(*[json.loads(l)['environment'][3:] for l in open(sys.argv[1])], sep='\\n')"
    return set(numbers(run("-c", code, str(exported), folder=folder)[1]))


READ_ONLY = 'mount --bind "$D" "$D" && mount -o remount,ro,bind "$D"'


@pytest.mark.parametrize("is_killed", [False, True], ids=["closed", "writer killed"])
def test_a_read_only_database_can_be_read(tmp_path: Path, is_killed: bool) -> None:
    """Shown, exported and imported from, with a log that its writer has left as well; not written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    url = f"sqlite:///{folder}/sotopia.db"
    if is_killed:
        process = start(*writer(url, 0, 100_000, claim_s=SHORT_S), folder=folder)
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        # Not `communicate`, which does not know of the lines that `readline` has read ahead.
        reported += numbers(process.stdout.read().rpartition("\n")[0])
        process.communicate()
    else:
        reported = numbers(run(*writer(url, 0, 5), folder=folder)[1])
    sotopia = ["-m", "sotopia_sdpo", "db"]
    code, out, err = run(*sotopia, "info", before=READ_ONLY, folder=folder)
    assert (code, err) == (0, "") and TAG in out
    exported = tmp_path / "out.jsonl"
    code, out, err = run(*sotopia, "export", "--episodes", str(exported), before=READ_ONLY, folder=folder)
    assert code == 0 and len(exported.read_text().splitlines()) in (len(reported), len(reported) + 1), err
    other = f"sqlite:///{tmp_path}/other.db"
    code, out, err = run(
        *sotopia, "import", "--db", other, str(folder / "sotopia.db"), before=READ_ONLY, folder=folder
    )
    assert code == 0 and "episodes are new" in out, err
    assert stored(other, tmp_path / "other") >= set(reported)
    if is_killed:
        # A writer may be killed between claiming and storing; while that claim holds, a deletion is refused for it.
        time.sleep(1.5 * SHORT_S)
    for command in (["import", str(exported)], ["delete", "--tag", TAG]):
        code, out, err = run(*sotopia, *command, before=READ_ONLY, folder=folder)
        assert code == 2 and "can" in err and "be written" in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    "before", ['mount -t tmpfs -o size=1m tmpfs "$D"', "ulimit -f 2000"], ids=["disk", "limit on files"]
)
def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path, before: str) -> None:
    """One line names the file and what to do; what was reported is all there, and there is room for more later."""
    folder, kept = tmp_path / "disk", tmp_path / "kept"
    folder.mkdir()
    url = f"sqlite:///{folder}/sotopia.db"
    # The disk of the first test is gone with its process, so its files are copied while that lives.
    copied = f'{{ "$@"; code=$?; cp -r "$D" "{kept}"; exit $code; }}; true'
    code, out, err = run(*writer(url, 0, 5000), before=f"{before} && ulimit -c 0 && {copied}", folder=folder)
    reported = numbers(out)
    assert code == 2 and err.count("\n") == 1 and "make room on its disk" in err, err
    assert len(reported) > 3 and err.startswith(f"error: {folder}/sotopia.db: "), err
    if not kept.is_dir():
        shutil.copytree(folder, kept)
    assert stored(f"sqlite:///{kept}/sotopia.db", kept) >= set(reported)
    assert numbers(run(*writer(f"sqlite:///{kept}/sotopia.db", 5000, 5003), folder=kept)[1]) == [5000, 5001, 5002]


@pytest.mark.parametrize(
    "before", ['mount -t tmpfs -o size=1m tmpfs "$D"', "ulimit -f 2000"], ids=["disk", "limit on files"]
)
def test_a_full_disk_loses_no_answer_that_was_kept(tmp_path: Path, before: str) -> None:
    """Of the next process, with room, those answers are found, and the others asked for."""
    folder, kept = tmp_path / "disk", tmp_path / "kept"
    folder.mkdir()
    copied = f'{{ "$@"; code=$?; cp -r "$D" "{kept}"; exit $code; }}; true'
    payer = ["-c", PAYER, str(folder)]
    code, out, err = run(*payer, "0", "500", before=f"{before} && ulimit -c 0 && {copied}", folder=folder)
    assert code == 2 and err.count("\n") == 1 and "make room on its disk" in err, err
    if not kept.is_dir():
        shutil.copytree(folder, kept)
    there = len(numbers(out))
    assert there > 3
    code, out, err = run("-c", PAYER, str(kept), "0", str(there + 3), folder=kept)
    assert (code, err) == (0, "") and set(numbers(out)) <= {there, there + 1, there + 2}
