"""Write small Redis snapshots for the tests, in any encoding the reader must know.

Written from the format's description alone, and apart from the reader: nothing is shared but the numbers.
"""

import json
import struct


CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
POLYNOMIAL = 0xAD93D23594C935A9


def slow_crc64(data):
    """CRC-64 bit by bit, not reflected, with the bits of each byte and of the result turned round."""
    crc = 0
    for byte in data:
        crc ^= int(f"{byte:08b}"[::-1], 2) << 56
        for _ in range(8):
            crc = (crc << 1) ^ (POLYNOMIAL if crc >> 63 else 0)
            crc &= (1 << 64) - 1
    return int(f"{crc:064b}"[::-1], 2)


def length(number, form=None):
    """Write a length in the shortest form, or in the one asked for: 6, 14, 32 or 64 bits."""
    form = form or (6 if number < 1 << 6 else 14 if number < 1 << 14 else 32 if number < 1 << 32 else 64)
    if form == 6:
        return bytes([number])
    if form == 14:
        return struct.pack(">H", 1 << 14 | number)
    return b"\x80" + struct.pack(">I", number) if form == 32 else b"\x81" + struct.pack(">Q", number)


def string(data, form=None):
    """Write a string as it is."""
    data = data.encode() if isinstance(data, str) else data
    return length(len(data), form) + data


def integer_string(number):
    """Write a string of digits as an integer."""
    for special, code, bits in ((0, "<b", 8), (1, "<h", 16), (2, "<i", 32)):
        if -(1 << bits - 1) <= number < 1 << bits - 1:
            return bytes([0xC0 | special]) + struct.pack(code, number)
    raise ValueError(number)


def pack_lzf(data):
    """Compress greedily: the longest earlier text at each place, however slow it is to find."""
    out, literals, place = bytearray(), bytearray(), 0

    def flush():
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.extend(bytes([len(run) - 1]) + run)
        literals.clear()

    while place < len(data):
        best, back = 0, 0
        for start in range(max(0, place - 8192), place):
            count = 0
            while count < 264 and place + count < len(data) and data[start + count] == data[place + count]:
                count += 1
            if count > best:
                best, back = count, place - start - 1
        if best < 3:
            literals.append(data[place])
            place += 1
            continue
        flush()
        rest = best - 2
        out.append(min(rest, 7) << 5 | back >> 8)
        if rest >= 7:
            out.append(rest - 7)
        out.append(back & 255)
        place += best
    flush()
    return bytes(out)


def lzf_string(data):
    """Write a string compressed."""
    data = data.encode() if isinstance(data, str) else data
    packed = pack_lzf(data)
    return b"\xc3" + length(len(packed)) + length(len(data)) + packed


def module_id(name, version):
    """Write a module's id."""
    number = 0
    for character in name:
        number = number << 6 | CHARACTERS.index(character)
    return length(number << 10 | version, 64)


def json_text(document, write=string):
    """Write a document as redis-stack does: one text."""
    return module_id("ReJSON-RL", 3) + b"\x05" + write(json.dumps(document, ensure_ascii=False)) + b"\x00"


def unsigned(number):
    """Write a marked number."""
    return b"\x02" + length(number)


def marked_string(text):
    """Write a marked string."""
    return b"\x05" + string(text)


INTEGER_MARK = b"\x02"
"""What RedisJSON 1.0.8 writes before an integer, though it is a signed one; a reader of it takes b"\x01" as well."""


def json_node(value, integer_mark=INTEGER_MARK):
    """Write a value as the oldest RedisJSON did: a tree."""
    if value is None:
        return unsigned(1)
    if isinstance(value, bool):
        return unsigned(0x10) + marked_string("1" if value else "0")
    if isinstance(value, int):
        return unsigned(8) + integer_mark + length(value % (1 << 64), 64)
    if isinstance(value, float):
        return unsigned(4) + b"\x04" + struct.pack("<d", value)
    if isinstance(value, str):
        return unsigned(2) + marked_string(value)
    if isinstance(value, list):
        return unsigned(0x40) + unsigned(len(value)) + b"".join(json_node(item, integer_mark) for item in value)
    entries = (unsigned(0x80) + marked_string(key) + json_node(item, integer_mark) for key, item in value.items())
    return unsigned(0x20) + unsigned(len(value)) + b"".join(entries)


def json_tree(document, integer_mark=INTEGER_MARK):
    """Write a document as a tree."""
    return module_id("ReJSON-RL", 0) + json_node(document, integer_mark) + b"\x00"


def entry(key, value, kind=7, before=b"", write=string):
    """Write one key and its value, with what stands before it."""
    return before + bytes([kind]) + write(key) + value


def snapshot(*records, version=9, checksum=True):
    """Put records together to a file."""
    body = b"REDIS" + f"{version:04d}".encode() + b"".join(records) + b"\xff"
    if version < 5:
        return body
    return body + (slow_crc64(body) if checksum else 0).to_bytes(8, "little")
