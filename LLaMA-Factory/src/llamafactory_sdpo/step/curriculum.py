"""The order of pairs in training under `pair_order: curriculum`: easy ones first, once.

Comes in: for every pair the number of its tokens, and the gap between its sides (`data.gaps`). Goes out: in the first
epoch the pairs by the sum of two ranks, the shortest and the one with the largest gap having the lowest, and of equal
sums in a seeded order; in later epochs a seeded random order. After Curri-DPO (arXiv 2403.07230), which goes from
large gaps in rating to small ones; the sum with the length is ours. Invariant: the order depends on the seed and the
epoch alone, so a training that is resumed goes on in it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class Curriculum(Sampler[int]):
    """Yields the indices of the pairs of an epoch."""

    def __init__(self, lengths: Sequence[int], gaps: Sequence[float], seed: int) -> None:
        """Take the pairs, in the order of their rows."""
        self.lengths, self.gaps, self.seed = list(lengths), list(gaps), seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0; the data loader calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Yield every index once."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order: list[int] = torch.randperm(len(self), generator=generator).tolist()
        if self.epoch == 0:
            ranks = [a + b for a, b in zip(_ranks(self.lengths), _ranks([-gap for gap in self.gaps]), strict=True)]
            order.sort(key=ranks.__getitem__)
        return iter(order)


def _ranks(values: Sequence[float]) -> list[int]:
    """Return how many values are smaller than each."""
    first = {value: rank for rank, value in reversed(list(enumerate(sorted(values))))}
    return [first[value] for value in values]
