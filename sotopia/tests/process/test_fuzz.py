"""The command that fuzzes: it finds no crash in a thousand cases, and it finds one that is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import environment


BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
BROKEN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import fuzz
fuzz.CASE_S = 0.5
from fuzz import targets, worker, __main__ as command
def read(case, scratch):
    number = int(case)
    if number == 3:
        raise KeyError("three")
    if number == 5:
        os._exit(9)
    if number == 7:
        time.sleep(60)
    if number == 9:
        bytearray(1 << 30)
    if number == 11:
        raise SystemExit
worker.case_of = lambda target, seed, number: str(number)
targets.TARGETS["rdb"] = targets.TARGETS["rdb"]._replace(read=read)
sys.exit(command.run(["rdb"], 0, 20))
"""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


def test_nothing_crashes_in_a_thousand_cases() -> None:
    done = run(str(BENCHMARKS / "fuzz"), "--cases", "1000", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^rdb +1,000 +0 ", done.stdout, re.M) and re.search(r"^answers +1,000 +0 ", done.stdout, re.M)


def test_every_kind_of_crash_is_counted_and_the_rest_goes_on() -> None:
    """An error, a process that ends, a hang, too much memory, an exit: five of twenty cases."""
    done = run("-c", BROKEN, str(BENCHMARKS))
    assert done.returncode == 1, done.stderr
    assert re.search(r"^rdb +20 +5 ", done.stdout, re.M)
    for number, sign in (
        (3, "KeyError: 'three'"),
        (5, "exit code 9"),
        (7, "longer than 0.5 s"),
        (9, "MemoryError"),
        (11, "SystemExit"),
    ):
        assert re.search(rf"^rdb case {number}: (?:.*\n)*?.*{sign}", done.stdout, re.M), sign


@pytest.mark.parametrize("argv", [["--cases", "0"], ["--show", "1"], ["--guided"]])
def test_wrong_options(argv: list[str]) -> None:
    assert run(str(BENCHMARKS / "fuzz"), *argv).returncode == 2
