"""docs/your-agent.md as a reader types it: its six commands off the page, with fewer steps, and the request after them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_inference import free_port


PROJECT = ROOT.parent
PAGE = (PROJECT / "docs" / "your-agent.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = BLOCKS[0].splitlines()
SAVES, DATA = "LLaMA-Factory/saves/agent", "dpo/data"
"""Where the page has models and data go; here they go to the test's own folder."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Return a function that makes the words of a command of the page, and the environment for it."""
    folder = tmp_path_factory.mktemp("your agent")
    env = {
        **os.environ,
        "SDPO_HOME": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def words(command, *more):
        here = command.replace(SAVES, shlex.quote(str(folder))).replace(DATA, shlex.quote(str(folder / "data")))
        return shlex.split(here) + list(more), env

    return words


def test_there_are_six_commands():
    assert len(COMMANDS) == 6 and all(command.startswith(("python dpo/", "bash ")) for command in COMMANDS)


def test_the_commands_of_the_page_and_its_request(typed):
    printed = ""
    for command in COMMANDS[:3]:
        words, env = typed(command)
        printed += subprocess.run(words, cwd=PROJECT, env=env, check=True, capture_output=True, text=True).stdout
    # What the page shows is what is printed, but for the folder.
    shown = [line.strip() for line in PAGE.splitlines() if line.startswith("    ") and " -> dpo/data/" in line]
    assert shown and all(line.partition(" -> ")[0] in printed for line in shown)
    for command in COMMANDS[3:5]:
        words, env = typed(command, "max_steps=2", "val_size=8")
        done = subprocess.run(words, cwd=PROJECT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    port = free_port()
    words, env = typed(COMMANDS[5], f"port={port}", "max_new_tokens=8")
    with subprocess.Popen(words, cwd=PROJECT, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert any("Ctrl-C" in line for line in server.stdout), "inference.sh ended; what it printed stands above"
            asking = BLOCKS[1].replace(":8000", f":{port}")
            done = subprocess.run(["bash", "-c", asking], cwd=PROJECT, env=env, capture_output=True, text=True)
            assert "'role': 'assistant'" in done.stdout, done.stderr
        finally:
            server.terminate()
            server.wait()
