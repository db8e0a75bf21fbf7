"""Files that appear whole or not at all: on the disk before they are in their place, and no draft left of a failure."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sotopia_sdpo.whole_files import whole_files, write_whole


SLOW = """
import sys, time
from pathlib import Path
from sotopia_sdpo.errors import run_at_edge
from sotopia_sdpo.whole_files import whole_files

def write():
    with whole_files() as draft:
        for path in map(Path, sys.argv[1:]):
            with draft(path) as file:
                file.write("new")
        print("written aside", flush=True)
        time.sleep(60)

sys.exit(run_at_edge(write))
"""


def test_files_are_on_the_disk_before_they_are_in_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two files in two folders: each file, then each name, then each folder."""
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")) or sync(number)
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: done.append(to.name) or replace(self, to))
    with whole_files() as draft:
        for name in ("a/x", "b/y"):
            (tmp_path / name).parent.mkdir()
            with draft(tmp_path / name) as file:
                file.write(name)
    names = [f"{tmp_path}/{folder}/.{name}.{os.getpid()}.tmp" for folder, name in ("ax", "by")]
    assert done[:4] == [*names, "x", "y"] and sorted(done[4:]) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert (tmp_path / "a/x").read_text() == "a/x"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_disk_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "x").write_text("old")

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_whole(tmp_path / "x", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("place", [".", "/"])
def test_a_folder_without_a_name_is_an_error_of_the_system(place: str) -> None:
    with pytest.raises(IsADirectoryError):
        write_whole(Path(place), "new")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_draft(tmp_path: Path, number: int) -> None:
    (tmp_path / "x").write_text("old")
    command = [sys.executable, "-c", SLOW, str(tmp_path / "x"), str(tmp_path / "y")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # it may be ignored where the tests run, as by nohup
    )
    assert process.stdout is not None and process.stdout.readline() == "written aside\n"
    assert len(list(tmp_path.iterdir())) == 3
    process.send_signal(number)
    assert process.communicate(timeout=30)[1] == "interrupted\n" and process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"
