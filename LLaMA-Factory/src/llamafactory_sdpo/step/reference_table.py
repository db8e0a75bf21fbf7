"""The reference's table, and the file that it is kept in.

A table holds the log-probability of every turn of every pair, whatever it weighs. A file is read whole or not at all:
one that is damaged, lacks a pair or is of another form is reported, and is as good as none.
"""

import hashlib
import logging
from collections.abc import Iterable
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..whole_files import write_whole


logger = logging.getLogger(__name__)

STORED = ("keys", "turns", "sums", "tokens")
"""The tensors of a table's file."""


class TurnLogps(NamedTuple):
    """What the reference says of the turns of one side, from the pair's `first_turn` on.

    Attributes:
        sums: the log-probability of each.
        tokens: its number of tokens; at the start of a row the first is not predicted, and not counted.
    """

    sums: list[float]
    tokens: list[int]

    def means(self) -> list[float]:
        """Return the mean log-probability of a token of each turn."""
        return [total / max(count, 1) for total, count in zip(*self, strict=True)]


Table = dict[int, tuple[TurnLogps, TurnLogps]]
"""The key of a pair -> its chosen and its rejected side."""


def read(path: Path, keys: Iterable[int]) -> Table | None:
    """Read a table; None if there is none, or it is damaged or lacks a key."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in STORED}
            checksum = file.metadata()["sha256"]
        table = _unpacked(stored)
        is_whole = checksum == _checksum(stored) and set(keys) <= set(table)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        logger.warning("%s is damaged; the reference's log-probabilities are computed again", path)
        return None
    return table


def write(path: Path, table: Table) -> None:
    """Write a table atomically; if the disk refuses, warn and go on, and the next run repeats the pass."""
    stored = _packed(table)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(stored, metadata={"sha256": _checksum(stored)}))
    except OSError as err:
        logger.warning("the reference's log-probabilities are not kept: %s", err)


def _packed(table: Table) -> dict[str, Tensor]:
    """Return a table as tensors: n keys, 2n numbers of turns, and the values of all turns after one another."""
    sides = [side for pair in table.values() for side in pair]
    return {
        "keys": torch.tensor(list(table), dtype=torch.int64),
        "turns": torch.tensor([len(side.sums) for side in sides], dtype=torch.int32),
        "sums": torch.tensor(list(chain.from_iterable(side.sums for side in sides)), dtype=torch.float64),
        "tokens": torch.tensor(list(chain.from_iterable(side.tokens for side in sides)), dtype=torch.int32),
    }


def _unpacked(stored: dict[str, Tensor]) -> Table:
    keys, turns, sums, tokens = (stored[name].tolist() for name in STORED)
    ends = list(accumulate(turns, initial=0))
    sides = [TurnLogps(sums[begin:end], tokens[begin:end]) for begin, end in pairwise(ends)]
    return dict(zip(keys, zip(sides[::2], sides[1::2], strict=True), strict=True))


def _checksum(stored: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in STORED:
        digest.update(stored[name].numpy().tobytes())
    return digest.hexdigest()
