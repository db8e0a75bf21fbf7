"""Make many hostile inputs out of a few good ones.

Comes in: good inputs, pieces that parsers stumble over, and a number. Goes out: the input of that number, the same in
every process. Invariant: nothing is read but these, so a case is named by its seed and its number.
"""

import random
from collections.abc import Sequence
from typing import TypeVar


Text = TypeVar("Text", bytes, str)
CHANGES = (1, 1, 1, 2, 2, 3, 5, 8)
LENGTHS = (0, 1, 1, 1, 2, 4, 8, 32, 128)
REPEATS = (2, 3, 10, 100, 1_000, 10_000)
MANY_IN = 300
"""One in so many changes repeats something; these take the longest."""


def mutated(name: str, inputs: Sequence[Text], pieces: Sequence[Text], most: int) -> Text:
    """Return the case of a name, of at most `most` bytes or characters."""
    draw = random.Random(name)
    data = draw.choice(inputs)
    for _ in range(draw.choice(CHANGES)):
        data = _changed(draw, data, inputs, pieces, most)[:most]
    return data


def _changed(draw: random.Random, data: Text, inputs: Sequence[Text], pieces: Sequence[Text], most: int) -> Text:
    """Change one place."""
    start = draw.randrange(len(data) + 1)
    end = min(len(data), start + draw.choice(LENGTHS))
    if not draw.randrange(MANY_IN):
        piece = draw.choice(pieces) + draw.choice((data[:0], data[start:end], draw.choice(pieces)))
        return data[:start] + piece * min(draw.choice(REPEATS), 1 + most // max(1, len(piece))) + data[end:]
    kind = draw.randrange(8)
    if kind == 0:
        return data[:start]
    if kind == 1:
        return data[:start] + data[end:]
    if kind == 2:
        return data[:start] + data[start:end] * 2 + data[end:]
    if kind == 3:
        other = draw.choice(inputs)
        return data[:start] + other[draw.randrange(len(other) + 1) :]
    return data[:start] + draw.choice(pieces) + data[end:]
