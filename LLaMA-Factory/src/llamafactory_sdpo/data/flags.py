"""Leave out the pairs that somebody has flagged in the page of dpo/report.py.

Comes in: a file of flags, `{"pairs": [{"digest": "7ed485935fc983f5"}, …]}`, of which other fields are not read. A
digest names a pair by what is said in it: the first 16 hex digits of SHA-256 of the JSON of [role, text] of every
turn, the rejected side's first (`sotopia_sdpo/pairs/digest.py` makes the same); calls beside a text, which OpenAI's
form alone has, are a third item. Goes out: the rows that are kept.
Invariant: every flag names a pair, or that is an error.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import UserError, kind, one_line
from .formats import Format
from .sources import Source, parts_of
from .splitting import Dialogue, split
from .tables import as_record


logger = logging.getLogger(__name__)

DIGITS = 16
ENCODED = "flags"
"""The column of encoded rows with the name of the flags that were left out of them; empty where none were."""


class Flags:
    """The flags of one file, and which of them have named a pair so far."""

    def __init__(self, path: str | None) -> None:
        """Read a file; None is no flags.

        Raises:
            UserError: if it is not there, or is not such a file.
        """
        self.path = path
        self._wanted = dict.fromkeys(_digests(Path(path))) if path else {}
        self._found: set[str] = set()

    @property
    def name(self) -> str:
        """What tells these flags from others, whatever file they stand in; empty for none."""
        return _short(sorted(self._wanted)) if self._wanted else ""

    def kept(self, dataset: Dataset, source: Source, form: Format, name: str) -> Dataset:
        """Return a dataset without the flagged pairs, and say how many there were.

        Args:
            dataset: a row for every pair of the source, in its order.
            source: what it was made of.
            form: how that is spelled.
            name: of the dataset, for the message.

        Raises:
            UserError: if no pair is left.
        """
        if not self._wanted:
            return dataset
        digests = list(digests_of(source, form))
        kept = [row for row, digest in enumerate(digests) if digest not in self._wanted]
        self._found.update(self._wanted.keys() & set(digests))
        logger.warning(
            "%s: left out %d of %d pairs, flagged in %s", name, len(digests) - len(kept), len(digests), self.path
        )
        if not kept:
            raise UserError(f"{name}: every pair is flagged in {self.path}; train on other data, or flag fewer")
        return dataset.select(kept)

    def check_found(self) -> None:
        """Refuse flags that have named no pair in any of the datasets.

        Raises:
            UserError: with the first of them.
        """
        lost = [(number, digest) for number, digest in enumerate(self._wanted) if digest not in self._found]
        if lost:
            number, digest = lost[0]
            more = f" ({len(lost) - 1} more like this)" if len(lost) > 1 else ""
            raise UserError(
                f"{self.path} flag {number}: no pair of the dataset has the digest {digest}{more}; the pairs have "
                "changed since they were flagged: export the flags again from a page of this file"
            )

    def check_encoded(self, rows: Any, tokenized_path: str | None) -> None:
        """Refuse encoded rows from which other pairs were left out.

        Raises:
            UserError: with the folder.
        """
        if tokenized_path is None:
            return
        if isinstance(rows, Dataset):
            left_out = set(rows[ENCODED] if ENCODED in rows.column_names else ("",))
        else:
            # Streamed, from one folder all the same; its columns are not known.
            left_out = {row.get(ENCODED, "") for row in islice(rows, 1)}
        if left_out - {self.name}:
            raise UserError(f"tokenized_path {tokenized_path} was written with another drop_pairs; use another folder")


def digests_of(source: Source, form: Format) -> Iterator[str]:
    """Yield the digest of every pair of a source, in its order; empty for one that cannot be read."""
    size = 1 if form.ranking else 2
    for part in parts_of(source.files, source.rows, ""):
        records: list[Any] = []
        for _, record in part.records:
            records.append(as_record(record, form) if part.is_table else record)
            if len(records) == size:
                yield digest_of(records, form)
                records = []


def digest_of(records: list[Any], form: Format) -> str:
    """Return the digest of one pair; empty if its records hold no two dialogues."""
    try:
        return _short([_said(side, form) for side in split(records, form)])
    except UserError:
        return ""


def _said(side: Dialogue, form: Format) -> list[list[Any]]:
    turns = [turn for turn in side.turns if isinstance(turn, dict)]
    return [
        [form.roles.get(str(turn.get(form.role_tag))), turn.get(form.content_tag), *_called(turn)] for turn in turns
    ]


def _called(turn: dict[str, Any]) -> list[Any]:
    """Return what a turn calls beside its text, as one item, or nothing; ids of calls are no part of what is said."""
    calls = turn.get("tool_calls") or turn.get("function_call")
    if isinstance(calls, list):
        return [[call.get("function", call) if isinstance(call, dict) else call for call in calls]]
    return [calls] if calls else []


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:DIGITS]


def _digests(path: Path) -> list[str]:
    """Read a file of flags."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"drop_pairs {path} does not exist; export it from the page of dpo/report.py") from None
    except (OSError, ValueError, RecursionError) as err:
        raise UserError(f"drop_pairs {path} is not JSON: {one_line(err)[:200]}; export it again") from None
    pairs = found.get("pairs") if isinstance(found, dict) else None
    if not isinstance(pairs, list):
        raise UserError(
            f'drop_pairs {path}: is {kind(found)}, expected {{"pairs": [{{"digest": …}}, …]}}, as the page of '
            "dpo/report.py exports it"
        )
    for number, pair in enumerate(pairs):
        digest = pair.get("digest") if isinstance(pair, dict) else None
        if not isinstance(digest, str) or len(digest) != DIGITS:
            raise UserError(f"drop_pairs {path} flag {number}: has no digest of {DIGITS} hex digits; export it again")
    return [pair["digest"] for pair in pairs]
