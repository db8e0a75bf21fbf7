"""How to step over the values of a Redis snapshot that are not JSON documents.

Comes in: a source that stands behind a key. Goes out: nothing; the source stands behind the value. Invariant: no
value is kept or unpacked, so a large one costs no memory.
"""

from collections.abc import Callable

from sotopia_sdpo.rdb.source import RdbSource


STREAM, STREAM_2, STREAM_3 = 15, 19, 21
STREAM_ID_BYTES = 16
TIME_BYTES = 8
SCORE_BYTES = 8
TEXT_SCORE_SPECIAL = 253
"""A sorted set's score as text: its length, or from here on one of nan, inf, -inf without text."""


def _strings(per_element: int) -> Callable[[RdbSource], None]:
    """Return the step over a counted list whose elements are so many strings."""

    def skip(source: RdbSource) -> None:
        for _ in range(source.length() * per_element):
            source.skip_string()

    return skip


def _skip_scored(source: RdbSource) -> None:
    """Step over a sorted set with binary scores."""
    for _ in range(source.length()):
        source.skip_string()
        source.skip(SCORE_BYTES)


def _skip_scored_as_text(source: RdbSource) -> None:
    """Step over a sorted set of old, with scores as text."""
    for _ in range(source.length()):
        source.skip_string()
        length = source.byte()
        source.skip(length if length < TEXT_SCORE_SPECIAL else 0)


def _skip_nodes(source: RdbSource) -> None:
    """Step over a list of listpacks, each with what it contains."""
    for _ in range(source.length()):
        source.length()
        source.skip_string()


def _skip_hash_with_expiry(source: RdbSource) -> None:
    """Step over a hash whose fields expire: the earliest expiry, then each field with its own."""
    source.skip(TIME_BYTES)
    for _ in range(source.length()):
        source.length()
        source.skip_string()
        source.skip_string()


def _skip_packed_hash_with_expiry(source: RdbSource) -> None:
    """Step over the same in one blob."""
    source.skip(TIME_BYTES)
    source.skip_string()


def _stream(kind: int) -> Callable[[RdbSource], None]:
    """Return the step over a stream, whose form has grown twice."""

    def skip(source: RdbSource) -> None:
        _strings(2)(source)
        _lengths(source, 3 if kind == STREAM else 8)
        for _ in range(source.length()):
            source.skip_string()
            _lengths(source, 2 if kind == STREAM else 3)
            for _ in range(source.length()):
                source.skip(STREAM_ID_BYTES + TIME_BYTES)
                source.length()
            for _ in range(source.length()):
                source.skip_string()
                source.skip(TIME_BYTES * (2 if kind == STREAM_3 else 1))
                for _ in range(source.length()):
                    source.skip(STREAM_ID_BYTES)

    return skip


def _lengths(source: RdbSource, count: int) -> None:
    """Step over so many lengths."""
    for _ in range(count):
        source.length()


SKIP: dict[int, Callable[[RdbSource], None]] = {
    1: _strings(1),
    2: _strings(1),
    3: _skip_scored_as_text,
    4: _strings(2),
    5: _skip_scored,
    14: _strings(1),
    18: _skip_nodes,
    24: _skip_hash_with_expiry,
    25: _skip_packed_hash_with_expiry,
    STREAM: _stream(STREAM),
    STREAM_2: _stream(STREAM_2),
    STREAM_3: _stream(STREAM_3),
    **dict.fromkeys((0, 9, 10, 11, 12, 13, 16, 17, 20), RdbSource.skip_string),
}
"""How to step over each type of value; 6 (modules of a release candidate) cannot be."""
