"""Show a file of preference pairs as one HTML page beside it."""

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
    path = find(pairs, data_dir)
    target = output or path.with_suffix(SUFFIX)
    check_target(target, path)
    report = report_of(shown_pairs(path, WRITERS.get(path.name, SEGMENT_PAIRS.writer)))
    write_page(page_of(report, path.name), target)
    print(f"{summary(report)} -> {target}")


def find(path: Path, data_dir: Path | None) -> Path:
    """Return the file that is meant: the one here, else the one of that name in the data folder."""
    in_data = data_home(data_dir) / path
    return in_data if not path.exists() and in_data.exists() else path


def check_target(target: Path, pairs: Path) -> None:
    """Check that the page can go to its place.

    Raises:
        UserError: if the pairs or a folder are there.
    """
    if target.resolve() == pairs.resolve():
        raise UserError(f"{target}: the page would replace the pairs; give another name with --output")
    if target.is_dir():
        raise UserError(f"{target}: expected a file for the page, found a folder; give a file with --output")


def write_page(page: str, target: Path) -> None:
    """Write the page in one step.

    Raises:
        UserError: if it cannot be written.
    """
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        temporary.write_text(page, "utf-8")
        temporary.replace(target)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written ({err.strerror}); give another place with --output") from err


def summary(report: dict[str, Any]) -> str:
    """Count the pairs, and the scenarios where the file tells them."""
    pairs, scenarios = len(report["pairs"]), len(report["scenarios"])
    counted = f"{pairs} {'pair' if pairs == 1 else 'pairs'}"
    return f"{counted} of {scenarios} {'scenario' if scenarios == 1 else 'scenarios'}" if scenarios else counted
