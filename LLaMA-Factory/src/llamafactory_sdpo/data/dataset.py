"""Load an entry of dataset_info.json, a file or a name of the hub as a dataset of pairs, one row each.

This comes before everything that works on rows (shuffling, splitting, subsampling, sharding): from here on a row is a
pair, so nothing can join two dialogues of different pairs. `datasets` caches the rows under a key of the files' bytes,
the rules and the code that reads them, so other ranks and later runs do not read the files again.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError

from .. import stages
from ..errors import UserError, printable
from . import (
    calls,
    encoding,
    formats,
    forms,
    gaps,
    pairing,
    reading,
    records,
    rendering,
    sources,
    splitting,
    tables,
    turns,
    weights,
)
from . import flags as flagging
from .encoding import SIDES
from .flags import Flags
from .formats import Format, format_of, names_columns
from .forms import SAMPLE, recognise
from .pairing import Rules, make_pairs
from .reading import Message
from .sources import Source, first_records, parts_of, source_of
from .tables import as_record


logger = logging.getLogger(__name__)

CODE = (
    *(stages, formats, sources, records, tables, turns, splitting, weights, reading, forms, gaps, pairing),
    *(calls, rendering, encoding, flagging),
)
"""The modules that, with this one, decide what a file becomes."""

_TURNS = [{"role": Value("string"), "content": Value("string"), "weight": Value("float64")}]
_FEATURES = Features(
    {
        "chosen": _TURNS,
        "rejected": _TURNS,
        "tools": Value("string"),
        "first_turn": Value("int32"),
        "unequal": Value("bool"),
        "calls": Value("bool"),
        "origin": Value("string"),
        "error": Value("string"),
        "gap": Value("float64"),
    }
)


def load_pairs(
    attr: Any,
    rules: Rules,
    dataset_dir: Any,
    max_samples: int | None,
    seed: int,
    cache_dir: Any,
    flags: Flags | None = None,
) -> Dataset:
    """Load the pairs of one dataset.

    Args:
        attr: the host's DatasetAttr.
        rules: what the stage asks of a pair.
        dataset_dir: the folder of dataset_info.json.
        max_samples: how many records to read; in the adjacent form a pair is two.
        seed: of the choice that `num_samples` makes.
        cache_dir: where `datasets` keeps its files, None for its default.
        flags: of pairs that are left out, before any choice is made.

    Raises:
        UserError: if a file is missing or broken, or a number of records would split a pair.
    """
    source = source_of(attr, dataset_dir, cache_dir)
    form = format_of(attr) if names_columns(attr) else _recognised(source, attr.dataset_name)
    try:
        dataset = Dataset.from_generator(
            _pairs_of,
            features=_FEATURES,
            gen_kwargs={
                **{"files": [] if source.rows is not None else source.files, "rows": source.rows},
                **{"cache_key": _digest(source.files), "form": asdict(form), "rules": asdict(rules)},
                "name": attr.dataset_name,
            },
            cache_dir=cache_dir,
        )
    except DatasetGenerationError as err:
        if isinstance(err.__cause__, UserError):
            raise err.__cause__ from None
        raise
    if flags:
        dataset = flags.kept(dataset, source, form, attr.dataset_name)
    return _subsample(dataset, attr, form, max_samples, seed)


def _recognised(source: Source, name: str) -> Format:
    """Return the format of a dataset that says nothing about it, and print what it was recognised as."""
    rows, is_table = first_records(source, SAMPLE)
    found = recognise(rows, is_table, name)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{Path(name).name}: {found.said}", flush=True)
    return found.format


def _digest(files: list[str]) -> str:
    """Return a digest of the files' bytes and of the code that reads them."""
    digest = hashlib.sha256()
    for name in (*files, *(str(module.__file__) for module in CODE), __file__):
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _pairs_of(
    files: list[str], rows: Dataset | None, cache_key: str, form: dict[str, Any], rules: dict[str, Any], name: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset.

    `cache_key` is not read here: `datasets` finds cached rows by a hash of a generator's arguments.
    """
    read = Format(**form)
    for part in parts_of(files, rows, name):
        found = ((number, as_record(row, read)) for number, row in part.records) if part.is_table else part.records
        for pair in make_pairs(found, read, Rules(**rules), part.name):
            yield pair._asdict()


def _subsample(dataset: Dataset, attr: Any, form: Format, max_samples: int | None, seed: int) -> Dataset:
    """Apply the host's `num_samples` and `max_samples`, which count records, to whole pairs."""
    if attr.num_samples is not None:
        wanted = _pairs_in(attr.num_samples, "num_samples", attr, form)
        generator = np.random.default_rng(seed)
        # Every pair once before any is taken twice.
        rounds = [generator.permutation(len(dataset)) for _ in range(-(-wanted // len(dataset)))]
        dataset = dataset.select(np.concatenate(rounds)[:wanted])
    if max_samples is not None:
        dataset = dataset.select(range(min(_pairs_in(max_samples, "max_samples", attr, form), len(dataset))))
    return dataset


def _pairs_in(count: int, option: str, attr: Any, form: Format) -> int:
    """Return how many pairs a number of records is."""
    if form.ranking:
        return count
    if count % 2:
        raise UserError(
            f"{attr.dataset_name}: {option} {count} would split a pair, since a pair is two adjacent records; "
            f"use an even number"
        )
    return count // 2


def check_calls(dataset: Dataset, check: Callable[[list[Message], str], None]) -> Dataset:
    """Put an error on the pairs whose tools or function calls cannot be rendered.

    Args:
        dataset: rows of `load_pairs`.
        check: raises a UserError for such messages or tools.
    """
    if not any(dataset["calls"]):
        return dataset
    return dataset.map(partial(_with_error_of, check), desc="Checking function calls")


def _with_error_of(check: Callable[[list[Message], str], None], row: dict[str, Any]) -> dict[str, Any]:
    if row["calls"] and not row["error"]:
        for side in SIDES:
            try:
                check(row[side], row["tools"])
            except UserError as err:
                return {**row, "error": f"{row['origin']}: {side}: {printable(str(err))}"}
    return row


def accept_pairs(dataset: Dataset, skip: bool, name: str) -> Dataset:
    """Drop the pairs that carry an error, or stop at the first.

    Args:
        dataset: rows of `load_pairs`.
        skip: drop and count them, instead of stopping.
        name: of the dataset, for the message.

    Raises:
        UserError: at the first wrong pair unless `skip`, or if no pair is left.
    """
    errors = [error for error in dataset["error"] if error]
    if errors and not skip:
        more = f" ({len(errors) - 1} more like this)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}; bad_pairs: skip leaves such pairs out")
    unequal = sum(dataset["unequal"])
    if unequal:
        logger.warning(
            "%s: %d of %d pairs have segments of unequal numbers of turns; a longer negative side collapses training",
            *(name, unequal, len(dataset)),
        )
    if not errors:
        return dataset
    kept = [index for index, error in enumerate(dataset["error"]) if not error]
    logger.warning("%s: skipped %d of %d pairs, the first: %s", name, len(errors), len(dataset), errors[0])
    if not kept:
        raise UserError(f"{name}: every pair was skipped, the first: {errors[0]}")
    return dataset.select(kept)


def keep_fitting(stage: str, stop: bool, data_args: Any, rows: Any, split: str) -> Any:
    """Drop the pairs that are longer than the cutoff, or stop at the first.

    Args:
        stage: that the rows must be of, as `Rules.rows_are_of` names it.
        stop: stop at the first pair that is too long, instead of dropping it.
        data_args: the host's.
        rows: encoded pairs.
        split: its name, for the message.

    Raises:
        UserError: if `stop` and a pair does not fit, if none is left, or if encoded rows are of another stage.
    """
    if data_args.streaming:
        return rows.filter(lambda row: row["fits"])
    if "key" not in rows.column_names or set(rows["stage"]) - {stage}:
        raise UserError(
            f"tokenized_path {data_args.tokenized_path} was not written by stage {stage}; use another folder"
        )
    kept = [index for index, fits in enumerate(rows["fits"]) if fits]
    lost = len(rows) - len(kept)
    # A column is read as a whole: row by row, each reading costs more than the encoding of its pair.
    dropped = rows["dropped_turns"][:]
    shortened = sum(1 for index in kept if dropped[index])
    if lost and (stop or not kept):
        first = next(origin for origin, fits in zip(rows["origin"], rows["fits"], strict=True) if not fits)
        split = split.removesuffix("_dataset")
        which = "every pair" if not kept else f"{lost} pairs"
        raise UserError(
            f"{first}: longer than cutoff_len {data_args.cutoff_len}, as {which} of the {split}; raise cutoff_len"
            + ("" if not kept else " or set overlong: skip")
        )
    if lost or shortened:
        logger.warning(
            "%s: of %d pairs %d were longer than cutoff_len %d and skipped, %d lost turns of their history",
            *(split, len(rows), lost, data_args.cutoff_len, shortened),
        )
    return rows.select(kept)
