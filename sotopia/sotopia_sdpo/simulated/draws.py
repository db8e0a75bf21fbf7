"""Numbers that look random and depend on nothing but what they are made of."""

import hashlib
from collections.abc import Callable


Draw = Callable[[str], float]
"""Returns a number in [0, 1), always the same one for the same request and label."""


def draws(*parts: object) -> Draw:
    """Return a source of numbers in [0, 1) that depend on these parts."""
    base = hashlib.sha256("\x1f".join(map(str, parts)).encode())

    def draw(label: str) -> float:
        digest = base.copy()
        digest.update(b"\x1f" + label.encode())
        return int.from_bytes(digest.digest()[:7], "big") / 2**56

    return draw
