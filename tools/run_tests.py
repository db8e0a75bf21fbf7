"""Run the test suites, two side by side, and end with one summary.

    python tools/run_tests.py            all of them: quick ones first, then commands as processes, then real servers
    python tools/run_tests.py --fast     what needs no server and no environment of vLLM's
    python tools/run_tests.py --faults   processes and servers killed, stopped and cut off, in the long form: a table
    python tools/run_tests.py -k masks   other arguments go to pytest

A suite that fails does not stop the others. Exit codes: 0 all passed, 1 something failed, 2 nothing was run.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree


ROOT = Path(__file__).resolve().parents[1]
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings", "--durations=5", "--durations-min=5")
NOTHING_COLLECTED = 5
SHELL_SCRIPTS = ("*.sh", "*/*.sh", "docs/cluster/*.sbatch", ".ci/run")


class Suite(NamedTuple):
    """Tests that one pytest runs, since their helpers have names of their own; or commands that check the sources."""

    name: str
    paths: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()


def source_checks() -> Suite:
    """Return the checks of the sources: style, types, spelling, shell scripts."""
    scripts = [str(path.relative_to(ROOT)) for pattern in SHELL_SCRIPTS for path in sorted(ROOT.glob(pattern))]
    commands = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
        (str(Path(sys.executable).with_name("typos")),),
        (str(Path(sys.executable).with_name("shellcheck")), *scripts),
    )
    return Suite("sources: ruff, mypy, typos, shellcheck", commands=commands)


# In the order in which they begin, two at a time: the quick ones first, then the longest ones.
QUICK = (
    Suite("training: units", ("LLaMA-Factory/tests/unit", "LLaMA-Factory/tests/gpu")),
    source_checks(),
    Suite("sampling: units", ("sotopia/tests/unit",)),
    Suite("scripts: units", ("dpo/tests/unit",)),
)
SLOW = (
    Suite("training: processes", ("LLaMA-Factory/tests/process",)),
    Suite("scripts: chains and the loop", ("dpo/tests/process",)),
    Suite("training: vLLM and other servers", ("LLaMA-Factory/tests/servers",)),
    Suite("sampling: processes and Redis", ("sotopia/tests/process", "sotopia/tests/servers")),
)
FAULTS = (
    Suite("faults of sampling, the long form", commands=(("benchmarks/faults/__main__.py",),)),
    Suite("faults of training, the long form", commands=(("benchmarks/training_faults.py",),)),
)
AT_ONCE = 2


class Result(NamedTuple):
    """What came of a suite."""

    suite: Suite
    seconds: float
    passed: int
    failed: int
    skipped: int


def run_suite(suite: Suite, arguments: list[str]) -> Result:
    """Run one suite; its output is printed in one piece when it ends."""
    print(f"==== {suite.name}: started", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if suite.commands:
            output, passed, failed, skipped = _run_commands(suite)
        else:
            output, passed, failed, skipped = _run_pytest(suite, arguments, Path(folder) / "report.xml")
    print(f"\n==== {suite.name}\n{output}", flush=True)
    return Result(suite, time.monotonic() - started, passed, failed, skipped)


def _run_commands(suite: Suite) -> tuple[str, int, int, int]:
    output, failed = "", 0
    for command in suite.commands:
        argv = [sys.executable, *command] if command[0] == "-m" or command[0].endswith(".py") else list(command)
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        failed += done.returncode != 0
        output += f"{' '.join(command)[:60]}: {'failed' if done.returncode else 'ok'}\n{done.stdout}"
    return output, len(suite.commands) - failed, failed, 0


def _run_pytest(suite: Suite, arguments: list[str], report: Path) -> tuple[str, int, int, int]:
    command = [sys.executable, *PYTEST, f"--junitxml={report}", *suite.paths, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == NOTHING_COLLECTED:
        return done.stdout, 0, 0, 0
    if not report.is_file():
        return done.stdout, 0, 1, 0
    counts = ElementTree.parse(report).find("testsuite")
    assert counts is not None, "pytest's report holds one testsuite"
    names = ("tests", "failures", "errors", "skipped")
    total, failures, errors, skipped = (int(counts.get(name, 0)) for name in names)
    failed = failures + errors or int(done.returncode != 0)
    return done.stdout, total - failures - errors - skipped, failed, skipped


def main() -> int:
    """Run the suites and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="only what needs no server and no environment of vLLM's")
    parser.add_argument("--faults", action="store_true", help="only the long form of the faults, at most 20 minutes")
    options, arguments = parser.parse_known_args()
    suites: tuple[Suite, ...] = FAULTS if options.faults else QUICK if options.fast else QUICK + SLOW
    if arguments:
        suites = tuple(suite for suite in suites if suite.paths)
    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda suite: run_suite(suite, arguments), suites))
    print("\n==== summary")
    for suite, seconds, passed, failed, skipped in results:
        state = "failed" if failed else "ok" if passed else "none"
        print(f"{state:6}  {suite.name:40}{seconds:6.0f} s  {passed} passed, {failed} failed, {skipped} skipped")
    passed, failed, skipped = (sum(counts) for counts in zip(*(result[2:] for result in results), strict=True))
    print(f"all in {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0 if passed else 2


if __name__ == "__main__":
    sys.exit(main())
