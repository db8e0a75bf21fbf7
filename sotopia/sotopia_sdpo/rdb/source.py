"""The bytes of a Redis snapshot: lengths and strings, read once from front to back.

Comes in: a file. Goes out: bytes, lengths, strings (raw, as integers or LZF-compressed) and the checksum of what was
read. Invariants: one chunk and one document are in memory, never the file, and a document has at most
MOST_DOCUMENT_BYTES; nothing is believed before it is checked against the bytes that are left; every complaint names
the file and the byte.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from sotopia_sdpo.errors import UserError
from sotopia_sdpo.rdb.codecs import load_codecs


CHUNK_BYTES = 1 << 20
MOST_DOCUMENT_BYTES = 8 << 20
"""The largest document, unpacked. Episodes have far less than one MiB, but 0.3 MB can unpack to 26 MB of text, and
that parse to 0.7 GB of Python objects."""
LZF_MOST_FROM_ONE_BYTE = 264 / 3
"""Three bytes of LZF name at most 264 bytes of text."""
SPECIAL = 3
LZF = 3
INTEGER_BYTES = {0: 1, 1: 2, 2: 4}
"""Special strings that hold an integer: how many bytes it has."""


class RdbError(UserError):
    """A snapshot that cannot be read: the file, the byte, and what is wrong there."""


class RdbSource:
    """A snapshot's bytes, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._codecs = load_codecs(path)
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        self._chunk = b""
        self._start = 0
        self._place = 0
        self._crc = 0
        self._room = MOST_DOCUMENT_BYTES

    @property
    def offset(self) -> int:
        """How many bytes have been read."""
        return self._start + self._place

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._size - self.offset

    def error(self, what: str, offset: int | None = None) -> RdbError:
        """Return the error of one line: the file, the byte and what is wrong there."""
        place = self.offset if offset is None else offset
        return RdbError(f"{self.path} byte {place}: {what}; nothing was imported from it")

    def begin_document(self) -> None:
        """Count the strings read from here on as those of one document."""
        self._room = MOST_DOCUMENT_BYTES

    def take_room(self, count: int, start: int) -> None:
        """Refuse a document that grows too large, before any memory is asked for."""
        self._room -= count
        if self._room < 0:
            most = MOST_DOCUMENT_BYTES >> 20
            raise self.error(
                f"a JSON document of more than {most} MiB; delete its key and save the snapshot again", start
            )

    def checksum(self) -> int:
        """Return the CRC64 of everything read so far."""
        return self._codecs.crc64(memoryview(self._chunk)[: self._place], self._crc)

    def read(self, count: int) -> bytes:
        """Read exactly count bytes."""
        if count <= len(self._chunk) - self._place:
            self._place += count
            return self._chunk[self._place - count : self._place]
        self._need(count)
        parts = []
        while count:
            part = self._chunk[self._place : self._place + count]
            self._place += len(part)
            count -= len(part)
            parts.append(part)
            if count:
                self._advance()
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Read exactly count bytes and forget them, a chunk at a time."""
        self._need(count)
        while count:
            step = min(count, len(self._chunk) - self._place)
            self._place += step
            count -= step
            if count:
                self._advance()

    def byte(self) -> int:
        """Read one byte."""
        return self.read(1)[0]

    def length(self) -> int:
        """Read a length."""
        start = self.offset
        kind, value = self._length_or_special()
        if kind == SPECIAL:
            raise self.error("expected a length, found a special string; the file is corrupt", start)
        return value

    def string(self) -> bytes:
        """Read a string, whatever its form; an integer comes as its decimal digits."""
        start = self.offset
        kind, value = self._length_or_special()
        if kind != SPECIAL:
            self.take_room(value, start)
            return self.read(value)
        if value in INTEGER_BYTES:
            return str(int.from_bytes(self.read(INTEGER_BYTES[value]), "little", signed=True)).encode()
        packed, length = self._lzf_lengths(value, start)
        self.take_room(length, start)
        return self._unpack(self.read(packed), length, start)

    def skip_string(self) -> None:
        """Read a string and forget it, without unpacking it."""
        start = self.offset
        kind, value = self._length_or_special()
        if kind != SPECIAL:
            self.skip(value)
        elif value in INTEGER_BYTES:
            self.skip(INTEGER_BYTES[value])
        else:
            self.skip(self._lzf_lengths(value, start)[0])

    def _length_or_special(self) -> tuple[int, int]:
        """Read what may be a length (any kind but SPECIAL) or the number of a special string."""
        start = self.offset
        first = self.byte()
        kind = first >> 6
        if kind in (0, SPECIAL):
            return kind, first & 0x3F
        if kind == 1:
            return kind, (first & 0x3F) << 8 | self.byte()
        if first in (0x80, 0x81):
            return kind, int.from_bytes(self.read(4 if first == 0x80 else 8), "big")
        raise self.error(f"0x{first:02x} begins no length; the file is corrupt", start)

    def _lzf_lengths(self, special: int, start: int) -> tuple[int, int]:
        """Read the two lengths of a compressed string: packed and unpacked."""
        if special != LZF:
            raise self.error(f"special string {special} is not known; the file is corrupt or too new", start)
        packed, length = self.length(), self.length()
        if length > packed * LZF_MOST_FROM_ONE_BYTE:
            raise self.error(f"{packed} compressed bytes cannot hold {length}; the file is corrupt", start)
        return packed, length

    def _unpack(self, packed: bytes, length: int, start: int) -> bytes:
        """Unpack a compressed string; whatever the package makes of broken bytes, they are refused in one line."""
        try:
            text = self._codecs.unpack_lzf(packed, length)
        except Exception:  # of another package, about bytes of a stranger's
            text = None
        if text is None or len(text) != length:
            raise self.error(f"a compressed string does not unpack to {length} bytes; the file is corrupt", start)
        return text

    def _need(self, count: int) -> None:
        """Refuse to read past the end, before any memory is asked for."""
        if count > self.left:
            raise self.error(f"{count} more bytes expected, {self.left} found; the file is truncated or corrupt")

    def _advance(self) -> None:
        """Read the next chunk."""
        self._crc = self._codecs.crc64(self._chunk, self._crc)
        self._start += len(self._chunk)
        self._place = 0
        self._chunk = self._file.read(CHUNK_BYTES)
        if not self._chunk:
            raise self.error("the file has become shorter while it was read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
