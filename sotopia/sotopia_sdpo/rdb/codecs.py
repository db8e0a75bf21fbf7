"""The checksum and the compression of Redis snapshots, from the packages of the extra `[rdb]`.

Comes in: bytes. Goes out: their CRC-64 "Jones", which may be continued, or what they unpack to. Invariant: a missing
package is one line that says what to install.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sotopia_sdpo.errors import UserError


EXTRA = "sotopia-sdpo[rdb]"


class Codecs(NamedTuple):
    """The two functions."""

    crc64: Callable[[bytes | memoryview, int], int]
    """The checksum of more bytes, given that of everything before them."""
    unpack_lzf: Callable[[bytes, int], bytes | None]
    """The text of packed bytes, up to so many bytes of it; raises, or returns None, if they are not LZF of that."""


def load_codecs(path: Path) -> Codecs:
    """Import the packages; the path is that of the snapshot, for the error."""
    try:
        import lzf
        from anycrc import Model
    except ImportError as err:
        raise UserError(f"{path}: a Redis snapshot needs the package {err.name}; pip install '{EXTRA}'") from err
    return Codecs(Model("CRC64-REDIS").calc, lzf.decompress)
