"""Draw a seeded random sample: the same items for a seed, whatever else is there and in whatever order."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar


T = TypeVar("T")


def draw(
    items: Sequence[T],
    limit: int | None,
    seed: int,
    name: Callable[[T], str],
    group: Callable[[T], Hashable] = lambda _: None,
) -> list[T]:
    """Draw at most `limit` items of every group, in their order.

    Args:
        items: the population.
        limit: the number of items; None takes all.
        seed: another seed draws other items.
        name: the name of an item; its rank depends on this and the seed only.
        group: the group of an item, by default one for all.
    """
    if limit is None:
        return list(items)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[group(item)].append(index)
    ranks = [hashlib.sha256(f"{seed}/{name(item)}".encode()).digest() for item in items]
    drawn = {index for members in groups.values() for index in sorted(members, key=ranks.__getitem__)[:limit]}
    return [item for index, item in enumerate(items) if index in drawn]
