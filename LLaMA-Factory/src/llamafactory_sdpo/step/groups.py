"""The order of pairs under `train_sampling_strategy: group_by_length`: that of transformers, by a seed of its own.

Comes in: the sampler of transformers, which draws from the generator of the whole process, and a seed. Goes out: for
every epoch an order in which pairs of about the same length are next to each other. Invariant: the order depends on
the seed and the epoch alone, not on what was drawn before: so all ranks have the same one, and a training that is
resumed goes on in it.
"""

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededGroups(LengthGroupedSampler):
    """Yields the indices of the pairs of an epoch."""

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        """Take the sampler in whose place it stands."""
        super().__init__(sampler.batch_size, lengths=sampler.lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0; the data loader calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield every index once."""
        self.generator.manual_seed(self.seed + self.epoch)
        order: Iterator[int] = super().__iter__()  # type: ignore[no-untyped-call]
        return order
