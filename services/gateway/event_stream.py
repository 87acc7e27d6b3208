"""Server-sent events to one client, with a bound on what an unread stream holds.

Input: JSON values. Output: ``data:`` lines. The connection's buffer is bounded (aiohttp waits for it to drain), and a
client that does not read for ``write_timeout_seconds`` is dropped. It must not know what the events say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from schemas import codec
from schemas.failure import Failure
from services.gateway.error_body import error_body
from shared.errors import Cancelled

UNBLOCKED_BYTES = 16 * 1024
"""Far below what makes aiohttp wait for a connection whose buffer is empty."""

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """The response starts with the first write, so that until then an error can still have a status of its own."""

    def __init__(self, request: web.Request, write_timeout_seconds: float) -> None:
        self._request = request
        self._write_timeout_seconds = write_timeout_seconds
        self._written_at = asyncio.get_running_loop().time()
        self.response = web.StreamResponse(headers=_HEADERS)

    @property
    def started(self) -> bool:
        return self.response.prepared

    @asynccontextmanager
    async def kept_alive(self, seconds: float) -> AsyncIterator[None]:
        """A stream that has begun gets a comment whenever nothing was written for ``seconds``."""
        beating = asyncio.create_task(self._beat(seconds), name="heartbeat")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    async def send(self, *values: Any) -> None:
        """Raises Cancelled when the client is gone (``client.gone``) or does not read (``client.too_slow``)."""
        await self._write(b"".join(b"data: " + codec.encode_json(value) + b"\n\n" for value in values))

    async def open(self, seconds: float) -> None:
        """Start the response before there is anything to send; a reader that loses it comes back after ``seconds``."""
        await self._write(f"retry: {round(seconds * 1000)}\n\n".encode())

    async def send_numbered(self, identifier: str, value: Any) -> None:
        """One event that a reader can resume behind. Raises as ``send``."""
        await self._write(f"id: {identifier}\ndata: ".encode() + codec.encode_json(value) + b"\n\n")

    async def _beat(self, seconds: float) -> None:
        """Until the client is gone, which ends the request as well: its connection is closed then."""
        loop = asyncio.get_running_loop()
        with suppress(Cancelled):
            while True:
                await asyncio.sleep(self._written_at + seconds - loop.time())
                if self.started and loop.time() >= self._written_at + seconds:
                    await self._write(b": still working\n\n")
                elif not self.started:
                    self._written_at = loop.time()

    async def done(self) -> None:
        await self._write(b"data: [DONE]\n\n")

    async def fail(self, failure: Failure) -> None:
        """The error as the last event; no ``[DONE]`` follows."""
        with suppress(Cancelled):
            await self.send(error_body(failure))

    async def _write(self, data: bytes) -> None:
        self._written_at = asyncio.get_running_loop().time()
        try:
            if self._is_unblocked(len(data)):
                await self.response.write(data)
                return
            async with asyncio.timeout(self._write_timeout_seconds):
                if not self.started:
                    await self.response.prepare(self._request)
                await self.response.write(data)
        except TimeoutError as error:
            drop(self._request)
            raise Cancelled("client.too_slow", "the client did not read its answer") from error
        except ConnectionError as error:
            raise Cancelled("client.gone", "the client closed the connection") from error

    def _is_unblocked(self, size: int) -> bool:
        """Whether a write cannot wait, and so needs no limit: nearly all of them, one per token."""
        transport = self._request.transport
        return (
            self.started
            and transport is not None
            and transport.get_write_buffer_size() == 0
            and size <= UNBLOCKED_BYTES
        )


def drop(request: web.Request) -> None:
    """Close the connection at once; what is buffered for it is freed."""
    if request.transport is not None:
        request.transport.abort()
