"""Show a file of preference pairs as one HTML page, for reading them and for tracing where they come from.

Reads preference_data_auto.json, preference_data.json, eto_data.json, or any list in the published form, and writes
one self-contained page beside it: pairs side by side, the located turn and the segment marked, scores, reasons,
filters, histograms. Nothing is left out: a pair that cannot be shown is an error.

    python dpo/report.py preference_data_auto.json
"""

import environment  # noqa: F401, I001 (first: it finds the packages)

from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.page import page_of
from sotopia_sdpo.report.reading import shown_pairs
from sotopia_sdpo.step_files import ETO_PAIRS, PAIRS, SEGMENT_PAIRS
from sotopia_sdpo.store import data_home


WRITERS = {file.name: file.writer for file in (PAIRS, ETO_PAIRS, SEGMENT_PAIRS)}
SUFFIX = ".html"


def main(
    pairs: Annotated[Path, typer.Argument(metavar="FILE", help="The pairs, here or in the data folder.")],
    output: Annotated[
        Path | None, typer.Option(show_default=False, help="The page. (default: beside FILE, named .html)")
    ] = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show a file of preference pairs as one self-contained HTML page."""
    options.end_with(lambda: write_report(find(pairs, data_dir), output))


def find(path: Path, data_dir: Path | None) -> Path:
    """Say which file is meant: the one here, else the one of that name in the data folder."""
    in_data = data_home(data_dir) / path
    return in_data if not path.exists() and in_data.exists() else path


def write_report(path: Path, output: Path | None) -> None:
    """Write the page and print the summary.

    Raises:
        UserError: if the pairs are not in order, or the page cannot be written.
    """
    target = output or path.with_suffix(SUFFIX)
    if target.resolve() == path.resolve():
        raise UserError(f"{target}: the page would replace the pairs; give another name with --output")
    if target.is_dir():
        raise UserError(f"{target}: expected a file for the page, found a folder; give a file with --output")
    report = report_of(shown_pairs(path, WRITERS.get(path.name, SEGMENT_PAIRS.writer)))
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        temporary.write_text(page_of(report, path.name), "utf-8")
        temporary.replace(target)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written ({err.strerror}); give another place with --output") from err
    print(f"{summary(report)} -> {target}")


def summary(report: dict[str, Any]) -> str:
    """Count the pairs, and the scenarios where the file tells them."""
    pairs, scenarios = len(report["pairs"]), len(report["scenarios"])
    counted = f"{pairs} {'pair' if pairs == 1 else 'pairs'}"
    return f"{counted} of {scenarios} {'scenario' if scenarios == 1 else 'scenarios'}" if scenarios else counted


if __name__ == "__main__":
    options.script(main)
