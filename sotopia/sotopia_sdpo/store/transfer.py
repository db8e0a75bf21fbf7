"""Import into a store and export out of it.

Comes in: files, or the URLs of other databases. Goes out: what was read, counted; files of JSON lines. Invariants:
all files of one import are written or none; an exported file appears whole or not at all; an import of an export
gives the same entries again.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.store.base import PROFILE_KINDS, Entry, LostTexts, Store
from sotopia_sdpo.store.episode import Status
from sotopia_sdpo.store.profiles import PUBLISHED_FILES, to_published
from sotopia_sdpo.store.reading import read_source
from sotopia_sdpo.store.urls import is_url, without_password


KINDS: tuple[str, ...] = (*PROFILE_KINDS, "episodes")


class SourceSummary(NamedTuple):
    """What one file or database held."""

    source: str
    """As it may be shown."""
    entries: Counter[str]
    """By kind."""
    skipped: Counter[str]
    """What is not ours, by what it is."""


def import_sources(store: Store, sources: Sequence[str]) -> list[SourceSummary]:
    """Write all entries of all sources, or none.

    Raises:
        UserError: if one of them cannot be read to its end; nothing was written then.
    """
    shown = (without_password(source) if is_url(source) else source for source in sources)
    summaries = [SourceSummary(source, Counter(), Counter()) for source in shown]
    store.put_entries(_counted(sources, summaries))
    return summaries


def _counted(sources: Sequence[str], summaries: Iterable[SourceSummary]) -> Iterator[Entry]:
    """Yield the entries of each source and count them."""
    for source, summary in zip(sources, summaries, strict=True):
        for entry in read_source(source, summary.skipped):
            summary.entries[entry[0]] += 1
            yield entry


def export_episodes(store: Store, path: Path, tags: Sequence[str] = (), status: Status | None = None) -> int:
    """Write episodes as JSON lines: upstream's EpisodeLog with our fields beside it.

    Args:
        store: where they are.
        path: the file, replaced if it is there.
        tags: only these; all if empty.
        status: only those; `scored` gives a file whose every line upstream's model takes.

    Returns:
        How many were written.

    Raises:
        LostTexts: if some have lost their text; the file holds the others then.
    """
    count, lost = 0, []
    with replaced_file(path) as file:
        for tag in dict.fromkeys(tags) or (None,):
            try:
                for episode in store.episodes(tag, status):
                    file.write(episode.model_dump_json() + "\n")
                    count += 1
            except LostTexts as err:
                lost.append(err)
    try:
        store.check_whole()
    except LostTexts as err:
        lost.insert(0, err)
    if lost:
        raise LostTexts(f"{path} has the {count} episodes whose text is there; {lost[0]}")
    return count


def export_profiles(store: Store, folder: Path) -> dict[str, int]:
    """Write profiles as the four files of the published data set and return how many each has."""
    counts = {}
    for kind in PROFILE_KINDS:
        rows = [to_published(kind, profile) for profile in store.profiles(kind)]
        with replaced_file(folder / PUBLISHED_FILES[kind]) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        counts[PUBLISHED_FILES[kind]] = len(rows)
    return counts


@contextmanager
def replaced_file(path: Path) -> Iterator[TextIO]:
    """Open a draft that replaces a file once it is written whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            try:
                yield file
            except BaseException:
                draft.unlink()
                raise
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as err:
        raise UserError(f"{path}: {err.strerror or err}; name another place") from err
