"""Server-sent events to one client, with a bound on what an unread stream holds.

Input: JSON values. Output: ``data:`` lines. The connection's buffer is bounded (aiohttp waits for it to drain), and a
client that does not read for ``write_timeout_seconds`` is dropped. It must not know what the events say.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, TypeVar

from aiohttp import web

from schemas import codec
from schemas.failure import Failure
from services.gateway.error_body import error_body
from shared.errors import Cancelled

T = TypeVar("T")

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
        self.response = web.StreamResponse(headers=_HEADERS)

    @property
    def started(self) -> bool:
        return self.response.prepared

    async def send(self, value: Any) -> None:
        """Raises Cancelled when the client is gone (``client.gone``) or does not read (``client.too_slow``)."""
        await self._write(b"data: " + codec.encode_json(value) + b"\n\n")

    async def heartbeat(self) -> None:
        await self._write(b": still working\n\n")

    async def done(self) -> None:
        await self._write(b"data: [DONE]\n\n")

    async def fail(self, failure: Failure) -> None:
        """The error as the last event; no ``[DONE]`` follows."""
        with suppress(Cancelled):
            await self.send(error_body(failure))

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_seconds):
                if not self.started:
                    await self.response.prepare(self._request)
                await self.response.write(data)
        except TimeoutError as error:
            drop(self._request)
            raise Cancelled("client.too_slow", "the client did not read its answer") from error
        except ConnectionError as error:
            raise Cancelled("client.gone", "the client closed the connection") from error


def drop(request: web.Request) -> None:
    """Close the connection at once; what is buffered for it is freed."""
    if request.transport is not None:
        request.transport.abort()


async def with_heartbeats(items: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T | None, None]:
    """``items``, and None whenever none came for ``seconds``. Closing it closes ``items``."""
    step: asyncio.Task[T] | None = None
    try:
        while True:
            step = step or asyncio.create_task(_next(items))
            done, _ = await asyncio.wait({step}, timeout=seconds)
            if not done:
                yield None
                continue
            try:
                item = step.result()
            except StopAsyncIteration:
                return
            finally:
                step = None
            yield item
    finally:
        if step is not None:
            step.cancel()
            await asyncio.wait({step})
        await items.aclose()


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)
