"""A proxy between a client and a server that cuts connections in the middle of what they say.

Comes in: two ports. Goes out: every byte, until a drawn number of them has passed in one direction; then both ends are
closed. Invariant: what has passed has passed, so an answer may be lost after its command was obeyed.
"""

import asyncio
import random
import threading
from contextlib import suppress
from typing import Self


FEWEST_BYTES, MOST_BYTES = 500, 8_000


class CuttingProxy:
    """The proxy, in a thread of its own; in a `with`, it listens."""

    def __init__(self, port: int, to: int, most: int) -> None:
        """Take where it listens, where it leads, and how many connections it cuts before it lets all pass."""
        self.port, self.to, self.most = port, to, most
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
            ways = (self._pass(reader, far_writer), self._pass(far_reader, writer))
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
            far_writer.transport.abort()
        writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on; end where the connection is to be cut."""
        left = random.randint(FEWEST_BYTES, MOST_BYTES)
        with suppress(OSError):
            while data := await reader.read(4096):
                if len(data) >= left and self.cuts < self.most:
                    self.cuts += 1
                    writer.write(data[:left])
                    await writer.drain()
                    return
                left -= len(data)
                writer.write(data)
                await writer.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self.port), self._loop
        ).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
