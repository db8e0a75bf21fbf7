"""`sotopia db`: move episodes and profiles in and out of a database, and see what is there.

    sotopia db import ../sotopia_pi.rdb episodes.jsonl      # finds out by itself what a file holds
    sotopia db export --episodes episodes.jsonl --profiles profiles/
    sotopia db info
    sotopia db delete --tag benchmark_..._trial0

Exit codes: 0 done, 2 the input is wrong and nothing was written, 3 the database has lost episodes. A database is
loaded only by what needs it.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sotopia_sdpo.errors import UserError, run_at_edge
from sotopia_sdpo.options import Commands, Database, DataDir, Script


if TYPE_CHECKING:
    from sotopia_sdpo.store.base import Store, StoreCounts
    from sotopia_sdpo.store.episode import Status


app = typer.Typer(
    name="db",
    help="Move episodes and profiles in and out of a database, and see what is there.",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)

PIPE_WIDTH = 240
MOST_CELL = 500


class StatusChoice(StrEnum):
    """The statuses an episode can have."""

    scored = "scored"
    unscored = "unscored"
    failed = "failed"


class FormatChoice(StrEnum):
    """The shapes in which episodes are exported."""

    full = "full"
    published = "published"


@app.command("import", cls=Script)
def import_(
    sources: Annotated[
        list[str], typer.Argument(metavar="FILE...", show_default=False, help="Files, or URLs of other databases.")
    ],
    db: Database = None,
    data_dir: DataDir = None,
) -> None:
    """Import episodes and profiles, all of them or none.

    FILE is a Redis snapshot (.rdb), JSON lines or JSON in the published shapes, an export of ours or of sotopia's, or
    a database; which of these it is, the command finds out. Importing the same file again changes nothing.
    """
    _at_edge(lambda: _import(sources, db, data_dir))


@app.command(cls=Script)
def export(
    episodes: Annotated[
        Path | None, typer.Option("--episodes", show_default=False, help="Write the episodes to this JSONL file.")
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option("--profiles", show_default=False, help="Write the profiles to this folder.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", show_default=False, help="Only episodes of this run; may be repeated.")
    ] = None,
    status: Annotated[
        StatusChoice | None,
        typer.Option(
            "--status",
            show_default=False,
            help="Only episodes with this status; sotopia itself can read all that are `scored`.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 (what users type)
        FormatChoice,
        typer.Option(
            "--format", help="`published`: scored episodes in the published shape, for sotopia's jsonl_to_episodes."
        ),
    ] = FormatChoice.full,
    db: Database = None,
    data_dir: DataDir = None,
) -> None:
    """Export episodes (sotopia's EpisodeLog with our fields beside it) and profiles (the published four files)."""
    _at_edge(lambda: _export(episodes, profiles, tag or [], status, format, db, data_dir))


@app.command(cls=Script)
def info(db: Database = None, data_dir: DataDir = None) -> None:
    """Show what a database holds: profiles by kind, episodes by tag and status."""
    _at_edge(lambda: _info(db, data_dir))


@app.command(cls=Script)
def delete(
    tag: Annotated[
        list[str], typer.Option("--tag", show_default=False, help="Delete the episodes of this run; may be repeated.")
    ],
    db: Database = None,
    data_dir: DataDir = None,
) -> None:
    """Delete all episodes of a tag that is not being sampled. Profiles stay."""
    _at_edge(lambda: _delete(tag, db, data_dir))


def _at_edge(command: Callable[[], None]) -> None:
    """Run a command and end with its exit code."""
    raise typer.Exit(run_at_edge(command))


def _import(sources: list[str], db: str | None, data_dir: Path | None) -> None:
    """Import and print what came."""
    from sotopia_sdpo.store import database_url, open_store
    from sotopia_sdpo.store.transfer import KINDS, import_sources

    with open_store(database_url(db, data_dir)) as store:
        before = store.counts()
        summaries = import_sources(store, sources)
        after = store.counts()
    kinds = [kind for kind in KINDS if any(summary.entries[kind] for summary in summaries)]
    rows = []
    for summary in summaries:
        skipped = ", ".join(f"{number} {name}" for name, number in sorted(summary.skipped.items()))
        rows.append([summary.source, *(str(summary.entries[kind]) for kind in kinds), skipped])
    has_skipped = any(row[-1] for row in rows)
    _print_table(["source", *kinds, "not ours"][: None if has_skipped else -1], rows)
    profiles = sum(after.profiles.values()) - sum(before.profiles.values())
    episodes = _number_of_episodes(after.episodes) - _number_of_episodes(before.episodes)
    print(f"{profiles} profiles and {episodes} episodes are new in {store.url}")


def _export(
    episodes: Path | None,
    profiles: Path | None,
    tags: list[str],
    status: StatusChoice | None,
    format: FormatChoice,  # noqa: A002
    db: str | None,
    data_dir: Path | None,
) -> None:
    """Export and print what was written."""
    from sotopia_sdpo.store import database_url, open_store
    from sotopia_sdpo.store.run_names import tags_meant
    from sotopia_sdpo.store.transfer import export_episodes, export_profiles, export_published

    if episodes is None and profiles is None:
        raise UserError("nothing to export; say --episodes FILE.jsonl, --profiles DIR or both")
    with open_store(database_url(db, data_dir), create=False) as store:
        tags = tags_meant(tags, store.counts().episodes, store.url)
        if episodes is not None and format is FormatChoice.published:
            if status not in (None, StatusChoice.scored):
                raise UserError(f"--format published has no place for {status} episodes; leave --status out")
            count, left_out = export_published(store, episodes, tags)
            print(f"{count} episodes -> {episodes}" + (f" ({left_out} without scores left out)" if left_out else ""))
        elif episodes is not None:
            count = export_episodes(store, episodes, tags, status.value if status else None)
            print(f"{count} episodes -> {episodes}")
        if profiles is not None:
            for name, count in export_profiles(store, profiles).items():
                print(f"{count} profiles -> {profiles / name}")


def _info(db: str | None, data_dir: Path | None) -> None:
    """Print what is there."""
    from sotopia_sdpo.store import database_url, open_store

    with open_store(database_url(db, data_dir), create=False) as store:
        counts = store.counts()
        _print_counts(store.url, counts)
        store.check_whole()


def _print_counts(url: str, counts: "StoreCounts") -> None:
    """Print what a database holds."""
    from sotopia_sdpo.store.base import PROFILE_KINDS

    print(url)
    _print_table(["profiles", "number"], [[kind, str(counts.profiles.get(kind, 0))] for kind in PROFILE_KINDS])
    rows = [
        [tag, *(str(statuses.get(status.value, 0)) for status in StatusChoice)]
        for tag, statuses in counts.episodes.items()
    ]
    if rows:
        _print_table(["episodes of tag", *StatusChoice], rows)
    else:
        print("no episodes")


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; names are folded rather than cut, and where nobody looks at a screen not even that."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sotopia_sdpo.text import one_line

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(one_line(cell, MOST_CELL)) for cell in row[: len(columns)]))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _delete(tags: list[str], db: str | None, data_dir: Path | None) -> None:
    """Delete and print how many there were."""
    from sotopia_sdpo.store import database_url, open_store
    from sotopia_sdpo.store.run_names import tags_meant

    with open_store(database_url(db, data_dir), create=False) as store:
        # What cannot be undone is not done to a name that only begins like this.
        tags = tags_meant(tags, store.counts().episodes, store.url, is_exact=True)
        for tag in tags:
            _check_not_running(store, tag)
        for tag in tags:
            print(f"{store.delete_tag(tag)} episodes of {tag} deleted")


def _check_not_running(store: "Store", tag: str) -> None:
    """Refuse to delete what a run takes for done."""
    from sotopia_sdpo.run.runner import CLAIM_TTL_S

    if owners := sorted(store.claimers(tag)):
        more = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
        raise UserError(
            f"{store.url}: {tag} is being sampled by {_process_of(owners[0])}{more}, which would count its episodes"
            f" as stored; end that run first (the claims of a killed one run out after {CLAIM_TTL_S:.0f} s)"
        )


def _process_of(owner: str) -> str:
    """Return an owner of claims without the number that tells it from an earlier one."""
    return owner.rpartition(":")[0] or owner


def _number_of_episodes(episodes: "dict[str, dict[Status, int]]") -> int:
    """Count the episodes of all tags."""
    return sum(sum(statuses.values()) for statuses in episodes.values())


if __name__ == "__main__":
    app()
