"""The bytes of a request's body, within bounds of size, time and of all bodies together.

Input: a request. Output: its bytes, which count as held until the block ends. It must not know what they say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.gateway.config import GatewayConfig
from services.gateway.limits import Budget
from shared.errors import BadInput

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is read in a thread, so that streams go on."""


class RequestBodies:
    def __init__(self, config: GatewayConfig) -> None:
        self._max_bytes = config.body_max_bytes
        self._timeout_seconds = config.body_timeout_seconds
        self._held = Budget("request bytes", config.bodies_max_bytes)

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Raises BadInput(``body_too_large``, ``body_timeout``), Busy."""
        length = request.content_length
        with self._held.take(self._max_bytes if length is None else length):
            yield await self._read(request)

    async def _read(self, request: web.Request) -> bytes:
        """Not ``request.read()``, which would keep the bytes as long as the request lives."""
        if (request.content_length or 0) > self._max_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async for piece in request.content.iter_any():
                    size += len(piece)
                    if size > self._max_bytes:
                        raise self._too_large()
                    pieces.append(piece)
        except TimeoutError as error:
            raise BadInput("body_timeout", "the body did not arrive in time", status=408) from error
        return b"".join(pieces)

    def _too_large(self) -> BadInput:
        message = f"the body is larger than {self._max_bytes} bytes; upload large media with POST /v1/files"
        return BadInput("body_too_large", message, status=413)
