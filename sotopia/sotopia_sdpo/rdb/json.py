"""Module values inside a Redis snapshot: a sequence of marked integers, floats and strings.

Comes in: a source that stands at a module's first mark. Goes out: the JSON document that the oldest RedisJSON kept as
a tree of nodes (encoding version 0), or nothing, for values that are stepped over. Invariant: an unknown mark is an
error, since nothing after it could be trusted.
"""

import struct
from typing import Any

from sotopia_sdpo.rdb.source import RdbSource


END, SIGNED, UNSIGNED, FLOAT, DOUBLE, STRING = range(6)
NULL, TEXT, NUMBER, INTEGER, BOOL, DICT, ARRAY = 1, 2, 4, 8, 0x10, 0x20, 0x40
ENTRY = 0x80
"""The mark before each key of a dict."""
MAX_DEPTH = 128
NODE_BYTES = 8
"""What a node counts beside its text against the size of a document."""


def skip_module(source: RdbSource) -> None:
    """Step over what is left of a module's value, its end included."""
    while True:
        start = source.offset
        mark = source.length()
        if mark == END:
            return
        if mark in (SIGNED, UNSIGNED):
            source.length()
        elif mark in (FLOAT, DOUBLE):
            source.skip(4 if mark == FLOAT else 8)
        elif mark == STRING:
            source.skip_string()
        else:
            raise source.error(f"mark {mark} in a module's value is not known; the file is corrupt", start)


def read_node(source: RdbSource, depth: int = 0) -> Any:
    """Read a JSON value that is kept as a tree."""
    start = source.offset
    source.take_room(NODE_BYTES, start)
    if depth > MAX_DEPTH:
        raise source.error(f"a JSON document is nested deeper than {MAX_DEPTH} levels", start)
    tag = _marked(source, UNSIGNED)
    if tag == NULL:
        return None
    if tag == ARRAY:
        return [read_node(source, depth + 1) for _ in range(_marked(source, UNSIGNED))]
    if tag == DICT:
        return dict(_read_entry(source, depth) for _ in range(_marked(source, UNSIGNED)))
    if tag == NUMBER:
        return _marked(source, DOUBLE)
    if tag == INTEGER:
        # Meant as signed; the modules of the time write it with the mark of an unsigned number.
        number = _marked(source, UNSIGNED, SIGNED)
        return number - (1 << 64) if number >> 63 else number
    if tag == TEXT:
        return _text(source)
    if tag == BOOL:
        return _text(source) == "1"
    raise source.error(f"JSON node {tag} is not known; the file is corrupt", start)


def _read_entry(source: RdbSource, depth: int) -> tuple[str, Any]:
    """Read one key of a dict and its value."""
    start = source.offset
    tag = _marked(source, UNSIGNED)
    if tag != ENTRY:
        raise source.error(f"expected a key of a JSON dict, found node {tag}; the file is corrupt", start)
    return _text(source), read_node(source, depth + 1)


def _text(source: RdbSource) -> str:
    """Read a marked string as text."""
    start = source.offset
    text: bytes = _marked(source, STRING)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise source.error("a string of a JSON document is not UTF-8; the file is corrupt", start) from None


def _marked(source: RdbSource, *expected: int) -> Any:
    """Read one value after its mark; an integer as 64 bits without a sign."""
    start = source.offset
    mark = source.length()
    if mark not in expected:
        raise source.error(f"expected mark {expected[0]} in a JSON document, found {mark}; the file is corrupt", start)
    if mark == STRING:
        return source.string()
    if mark == DOUBLE:
        return struct.unpack("<d", source.read(8))[0]
    return source.length()
