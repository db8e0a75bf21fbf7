"""Read a million hostile snapshots and answers, and print crashes, the slowest case and the largest.

Cases are mutations of good inputs, drawn by a seed; each may take 10 s and 256 MiB, and may raise our own error for a
bad input alone. A case is read in a process that it may kill.

    python benchmarks/fuzz --cases 1000000             # of each target; minutes on one core
    python benchmarks/fuzz --only rdb --show 4711      # one case again, with its traceback
    python benchmarks/fuzz --only rdb --guided         # by coverage, with atheris (`pip install atheris`)

Exit codes: 0 no crash; 1 there was one; 2 a wrong option.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
SHOWN_CRASHES = 5
SHOWN_CHARACTERS = 2000


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1_000_000, help="of each target (default: 1000000)")
    parser.add_argument("--only", choices=("rdb", "answers"), action="append", help="this target; may be repeated")
    parser.add_argument("--seed", type=int, help="of the cases (default: another one each time)")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="read this case alone, in this process")
    parser.add_argument("--guided", action="store_true", help="let atheris draw the cases, by what they reach")
    options = parser.parse_args()
    if options.cases < 1 or ((options.show is not None or options.guided) and len(options.only or ()) != 1):
        parser.error("expected at least 1 of --cases; --show and --guided take --only with one target")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    if options.guided:
        from fuzz.guided import run_guided

        return run_guided(options.only[0], seed, options.cases)
    if options.show is not None:
        show(options.only[0], seed, options.show)
        return 0
    print(f"seed {seed}", flush=True)
    return run([*dict.fromkeys(options.only or ("rdb", "answers"))], seed, options.cases)


def show(target: str, seed: int, number: int) -> None:
    """Print a case and read it."""
    from fuzz.targets import TARGETS
    from fuzz.worker import case_of

    case = case_of(target, seed, number)
    print(f"{len(case)} long: {case[:SHOWN_CHARACTERS]!r}")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        TARGETS[target].read(case, Path(folder) / "case")
        print(f"read in {time.perf_counter() - started:.3f} s")


def run(targets: list[str], seed: int, cases: int) -> int:
    """Run the cases of targets; return 1 if one crashed."""
    from fuzz.worker import Report, run_cases

    lines, has_crashed = [], False
    for target in targets:
        started, report = time.monotonic(), Report()
        for report in run_cases(target, seed, cases):
            if sys.stderr.isatty():
                print(f"\r{target}: {report.cases:,} cases, {len(report.crashes)} crashes", end="", file=sys.stderr)
        seconds = time.monotonic() - started
        for number, text in report.crashes[:SHOWN_CRASHES]:
            print(f"{target} case {number}: {text}", flush=True)
        has_crashed |= bool(report.crashes)
        slow, large = report.slowest, report.largest
        lines.append(
            f"{target:10}{report.cases:12,d}{len(report.crashes):9d}{slow[0]:9.3f} s  case {slow[1]:<9d}"
            f"{large[0]:10,d} KiB  case {large[1]:<9d}{seconds:7.0f} s"
        )
    print(f"{'target':10}{'cases':>12}{'crashes':>9}{'slowest':>11}{'':16}{'largest':>14}{'':16}{'all':>9}")
    print("\n".join(lines), flush=True)
    return int(has_crashed)


if __name__ == "__main__":
    sys.exit(main())
