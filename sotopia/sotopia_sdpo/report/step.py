"""Show a file of preference pairs as one HTML page beside it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.pairs import options
from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.dataset import write_folder
from sotopia_sdpo.report.page import page_of
from sotopia_sdpo.report.reading import shown_pairs
from sotopia_sdpo.step_files import ETO_PAIRS, PAIRS, SEGMENT_PAIRS, read_list
from sotopia_sdpo.store import data_home
from sotopia_sdpo.text import one_line
from sotopia_sdpo.whole_files import write_whole


WRITERS = {file.name: file.writer for file in (PAIRS, ETO_PAIRS, SEGMENT_PAIRS)}
SUFFIX = ".html"
MOST_SHOWN_NAME = 30


def main(
    pairs: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="The pairs, here or in the data folder.")
    ],
    output: Annotated[
        Path | None, typer.Option(show_default=False, help="The page. (default: beside FILE, named .html)")
    ] = None,
    dataset_folder: Annotated[
        Path | None,
        typer.Option(show_default=False, help="Write the pairs here too, as a Hugging Face dataset with a card."),
    ] = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show a file of preference pairs as one self-contained HTML page."""
    path = find(pairs, data_dir)
    if path.is_dir():
        raise UserError(f"{path}: expected a file of pairs, found a folder")
    target = output or path.with_suffix(SUFFIX)
    check_target(target, path)
    writer = WRITERS.get(path.name, SEGMENT_PAIRS.writer)
    found = shown_pairs(path, writer)
    report = report_of(found)
    write_page(page_of(report, path.name), target)
    print("\n".join([f"{summary(report)} -> {target}", *outcome_lines(report)]))
    if dataset_folder:
        write_folder(dataset_folder, read_list(path, writer), found, path.name)
        print(f"{summary(report)} -> {dataset_folder}, a dataset with a card")


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
    try:
        write_whole(target, page)
    except OSError as err:
        raise UserError(f"{target}: cannot be written ({err.strerror}); give another place with --output") from err


def summary(report: dict[str, Any]) -> str:
    """Count the pairs, and the scenarios where the file tells them."""
    pairs, scenarios, place = len(report["pairs"]), len(report["scenarios"]), report["place"]
    counted = f"{pairs} {'pair' if pairs == 1 else 'pairs'}"
    if scenarios:
        counted += f" of {scenarios} {place if scenarios == 1 else f'{place}s'}"
    return counted + (f", {report['by_state']} matched by state" if report["by_state"] else "")


def outcome_lines(report: dict[str, Any]) -> list[str]:
    """Give the means of what dialogues out of logs came to; SOTOPIA's steps have printed theirs."""
    if report["place"] != "task":
        return []
    lines = []
    for name in report["outcomes"]:
        both = report["means"][name]
        told = f"mean {both[0]:.2f} -> {both[1]:.2f}, negative to positive" if both else "unknown on one side or both"
        lines.append(f"  {one_line(name, MOST_SHOWN_NAME)}: {told}")
    return lines
