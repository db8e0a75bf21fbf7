"""Read the JSON documents out of a redis-stack snapshot (`.rdb`), without a server.

Comes in: a snapshot of RDB version 1 to 15. Goes out: each JSON document with its key, in the order of the file; all
other values are stepped over. Invariants: memory does not grow with the file, and a reader that came to the end
without an error has seen a whole file whose checksum is right: so keep what it yields aside until then.

Keys with an expiry are yielded too, also where it has passed: a snapshot is old by nature, and nothing of SOTOPIA's
expires.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sotopia_sdpo.rdb.json import MAX_DEPTH, read_node, skip_module
from sotopia_sdpo.rdb.source import RdbError, RdbSource
from sotopia_sdpo.rdb.values import SKIP


__all__ = ["RdbDocument", "RdbError", "read_rdb"]

MAGIC = b"REDIS"
NEWEST_VERSION = 15
"""Redis 8. From 13 on there are new kinds of values and opcodes; those are refused where they stand."""
FIRST_VERSION_WITH_CHECKSUM = 5

EOF, SELECT_DB, EXPIRE_S, EXPIRE_MS = 255, 254, 253, 252
RESIZE, AUX, FREQ, IDLE, MODULE_AUX, FUNCTION, SLOT_INFO = 251, 250, 249, 248, 247, 245, 244
FIRST_OPCODE = 240
"""No kind of value has a number this high."""

MODULE_VALUE = 7
JSON_MODULE = "ReJSON-RL"
JSON_AS_TREE, JSON_AS_TEXT, JSON_AS_BINARY = 0, 3, 4
MODULE_NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

REMEDY = "; load the file into its Redis and import from redis://HOST:PORT/N"


class RdbDocument(NamedTuple):
    """One JSON document of a snapshot."""

    key: str
    document: Any
    database: int
    expires_ms: int | None
    """Since 1970; None where it does not expire."""
    offset: int
    """The byte at which its entry of the file begins."""


def read_rdb(path: Path) -> Iterator[RdbDocument]:
    """Yield the JSON documents of a snapshot.

    Raises:
        RdbError: if the file is no snapshot, is corrupt, truncated, or holds what this reader does not know; the
            line says at which byte.
    """
    with RdbSource(path) as source:
        version = _read_header(source)
        database, expires_ms = 0, None
        while True:
            start = source.offset
            code = source.byte()
            if code == EOF:
                break
            if code == SELECT_DB:
                database = source.length()
            elif code in (EXPIRE_S, EXPIRE_MS):
                expires_ms = _read_expiry(source, code)
            elif code >= FIRST_OPCODE:
                _skip_opcode(source, code, start)
            else:
                source.begin_document()
                key = source.string()
                if code == MODULE_VALUE:
                    for document in _module_documents(source):
                        yield RdbDocument(_text(source, key, start), document, database, expires_ms, start)
                else:
                    _skip_value(source, code, start)
                expires_ms = None
        _check_end(source, version)


def _read_header(source: RdbSource) -> int:
    """Read the nine bytes at the front and return the version."""
    header = source.read(min(source.left, 9))
    if not header.startswith(MAGIC) or not header[5:].isdigit() or len(header) < 9:
        raise source.error(f"{header!r} is not the beginning of a Redis snapshot", 0)
    version = int(header[5:])
    if not 1 <= version <= NEWEST_VERSION:
        raise source.error(f"RDB version {version} is too new, up to {NEWEST_VERSION} can be read{REMEDY}", 5)
    return version


def _read_expiry(source: RdbSource, code: int) -> int:
    """Read when the next key expires, in milliseconds."""
    if code == EXPIRE_S:
        return int.from_bytes(source.read(4), "little", signed=True) * 1000
    return int.from_bytes(source.read(8), "little", signed=True)


def _check_end(source: RdbSource, version: int) -> None:
    """Compare the checksum, and refuse anything behind it."""
    if version >= FIRST_VERSION_WITH_CHECKSUM:
        found, place = source.checksum(), source.offset
        stored = int.from_bytes(source.read(8), "little")
        # Zero is what a server writes that was told not to compute it.
        if stored not in (0, found):
            raise source.error(
                f"the checksum is {stored:016x}, the content's {found:016x}; the file is corrupt", place
            )
    if source.left:
        raise source.error(f"{source.left} bytes follow the end of the snapshot; the file is corrupt")


def _skip_opcode(source: RdbSource, code: int, start: int) -> None:
    """Step over an opcode that is not a value."""
    if code == MODULE_AUX:
        source.length()
        skip_module(source)
    elif code == FREQ:
        source.skip(1)
    elif code in (AUX, FUNCTION):
        for _ in range(2 if code == AUX else 1):
            source.skip_string()
    elif code in (IDLE, RESIZE, SLOT_INFO):
        for _ in range({IDLE: 1, RESIZE: 2, SLOT_INFO: 3}[code]):
            source.length()
    else:
        raise source.error(f"record {code} is not known; the file is corrupt or too new{REMEDY}", start)


def _module_documents(source: RdbSource) -> Iterator[Any]:
    """Read a module's value: yield its document if it is a JSON one, step over it otherwise."""
    start = source.offset
    name, version = module_name(source.length())
    if name != JSON_MODULE:
        skip_module(source)
        return
    if version == JSON_AS_BINARY:
        raise source.error(f"{name} version 4 (RedisJSON 8.7 and later, binary) cannot be read{REMEDY}", start)
    if version not in (JSON_AS_TEXT, JSON_AS_TREE):
        raise source.error(f"{name} version {version} is not known, expected 0 or 3{REMEDY}", start)
    yield read_node(source) if version == JSON_AS_TREE else _parse(source, start)
    skip_module(source)


def _parse(source: RdbSource, start: int) -> Any:
    """Read a document that is kept as JSON text."""
    if source.length() != 5:
        raise source.error("a JSON document has no text; the file is corrupt", start)
    text = source.string()
    try:
        return json.loads(text)
    except RecursionError:
        raise source.error(f"a JSON document is nested deeper than {MAX_DEPTH} levels", start) from None
    except ValueError as err:
        raise source.error(f"a JSON document does not parse ({err}); the file is corrupt", start) from None


def module_name(number: int) -> tuple[str, int]:
    """Return a module's name, nine characters of six bits, and the ten bits of its encoding version."""
    places = (10 + 6 * place for place in reversed(range(9)))
    return "".join(MODULE_NAME_CHARACTERS[number >> place & 63] for place in places), number & 1023


def _text(source: RdbSource, key: bytes, start: int) -> str:
    """Return a key as text."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise source.error(f"the key {key!r} of a JSON document is not UTF-8", start) from None


def _skip_value(source: RdbSource, kind: int, start: int) -> None:
    """Step over a value that is not a module's."""
    if kind not in SKIP:
        raise source.error(f"value type {kind} is not known; the file is corrupt or too new{REMEDY}", start)
    SKIP[kind](source)
