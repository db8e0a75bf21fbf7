"""Cut a stream into pages, so that it can be read and written a few items at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar


T = TypeVar("T")


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one perhaps shorter, never an empty one."""
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page
