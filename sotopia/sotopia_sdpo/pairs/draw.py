"""Take some of many by lot, always the same ones for a seed, whatever else is there and in whatever order."""

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
    """Take at most `limit` items of every group, and keep their order.

    Args:
        items: out of which.
        limit: how many; None takes all.
        seed: another one takes others.
        name: what an item is called; its lot depends on this and the seed only.
        group: what an item belongs to, by default all to one.
    """
    if limit is None:
        return list(items)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[group(item)].append(index)
    lots = [hashlib.sha256(f"{seed}/{name(item)}".encode()).digest() for item in items]
    taken = {index for members in groups.values() for index in sorted(members, key=lots.__getitem__)[:limit]}
    return [item for index, item in enumerate(items) if index in taken]
