"""Requests that are being answered, so that a key that is revoked or expires ends them too: a stream may take hours.

Input: requests as they come and go. Output: their connections, closed. What a lost connection means is the handler's
affair: a chat is cancelled, a run goes on.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from services.gateway.beside import beside
from services.gateway.event_stream import drop
from services.gateway.keys import Keys
from shared.clock import Clock
from shared.errors import Unauthorized

log = logging.getLogger(__name__)


class OpenRequests:
    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._open: dict[int, web.Request] = {}

    @contextmanager
    def holding(self, request: web.Request) -> Iterator[None]:
        self._open[id(request)] = request
        try:
            yield
        finally:
            del self._open[id(request)]

    @asynccontextmanager
    async def watched(self, interval_seconds: float) -> AsyncIterator[None]:
        """Looks at every open request's key now and then, as long as the block runs."""
        async with beside(self._watch(interval_seconds), "watch open requests"):
            yield

    async def _watch(self, interval_seconds: float) -> None:
        while True:
            await self._clock.sleep(interval_seconds)
            self.drop_unwelcome()

    def drop_unwelcome(self) -> None:
        for request in tuple(self._open.values()):
            try:
                self._keys.principal(request.headers.get("Authorization"))
            except Unauthorized as error:
                log.info("connection closed", extra={"code": error.code, "path": request.path})
                drop(request)
