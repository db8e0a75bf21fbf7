"""Check the files of the dpo/ steps against the episodes they came from, slowly, and with no code but its own.

Reads the step files that are in a folder and the JSONL that `sotopia db export --episodes FILE` writes. Prints every
violation of the files' contracts on a line, then one line of what was checked; exit code 1 if there are violations.
Invariant: nothing of sotopia_sdpo is imported, so what is derived here from an episode shares no mistake with it.

    python dpo/tests/recheck.py FOLDER EPISODES.jsonl
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recheck_book import COMBOS, CUT, ETO, LOCATED, MALFORMED, NEGATIVES, PAIRS, POSITIVES, SFT, Book, Report, Rules
from recheck_pairs import cut, pairs, positives
from recheck_sides import combos, located, negatives, sft


CHECKS: dict[str, tuple[str | None, Callable[[Book], None]]] = {
    NEGATIVES: (None, negatives),
    COMBOS: (NEGATIVES, combos),
    LOCATED: (NEGATIVES, located),
    PAIRS: (LOCATED, lambda book: pairs(book, PAIRS, LOCATED, "hpos")),
    POSITIVES: (PAIRS, positives),
    CUT: (PAIRS, cut),
    ETO: (NEGATIVES, lambda book: pairs(book, ETO, NEGATIVES, "pos")),
    SFT: (None, sft),
}
"""Each file: the one it is checked against, and how."""


def recheck(folder: str | Path, episodes_path: str | Path, **rules: Any) -> Report:
    """Check all step files that a folder has; the rules are those of Rules."""
    book = Book(Path(folder), Path(episodes_path), Rules(**rules), list(CHECKS))
    for name in book.files:
        source, check_file = CHECKS[name]
        if source and source not in book.files:
            book.say(name, f"cannot be checked without {source}")
            continue
        try:
            check_file(book)
        except MALFORMED as error:  # a malformed record is a violation too, and its file's check ends there
            book.say(name, f"malformed, not checked to its end: {error!r}")
    book.report.counts["dialogues compared turn by turn"] = str(book.compared)
    return book.report


def check(folder: str | Path, episodes_path: str | Path, **rules: Any) -> list[str]:
    """Return every violation as a line; an empty list if there is none."""
    return recheck(folder, episodes_path, **rules).violations


def main() -> int:
    """Check and print; return exit code 1 if there is a violation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("episodes", type=Path)
    parser.add_argument("--max-goal", type=float, default=Rules.max_goal)
    parser.add_argument("--max-relationship", type=float_or_none, default=Rules.max_relationship, help="or none")
    parser.add_argument("--cap", type=int, default=Rules.cap)
    parser.add_argument("--sft-min-goal", type=float)
    parser.add_argument("--eto-any-difference", action="store_true")
    parser.add_argument("--run", dest="runs", action="append", default=[], help="a tag without _trialN; repeatable")
    given = vars(parser.parse_args())
    report = recheck(given.pop("folder"), given.pop("episodes"), **given | {"runs": tuple(given["runs"])})
    print(*report.violations, sep="\n", end="\n" * bool(report.violations))
    counts = "; ".join(f"{name}: {count}" for name, count in report.counts.items())
    print(f"{len(report.violations)} violations; checked {counts}")
    return int(bool(report.violations))


def float_or_none(text: str) -> float | None:
    """Read a bound that may be switched off."""
    return None if text == "none" else float(text)


if __name__ == "__main__":
    sys.exit(main())
