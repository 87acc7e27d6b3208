"""The bounded buffer behind every subscription, real or fake.

In: messages as they arrive, from the event loop. Out: the same, in order, to one reader. Overflow is never silent: what
fitted is still read, then the reader gets ``Unavailable``. Knows nothing of the broker.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from shared.errors import MoontideError, Unavailable

MAX_PENDING_BYTES = 64 * 1024 * 1024


class Mailbox:
    """Implements ``interface.Subscription``; ``put`` and ``end`` are for whoever delivers."""

    def __init__(self, max_pending: int, on_close: Callable[[], Awaitable[None]]) -> None:
        self._max_pending = max_pending
        self._on_close = on_close
        self._messages: deque[bytes] = deque()
        self._pending_bytes = 0
        self._changed = asyncio.Event()
        self._end: MoontideError | None = None
        self._closed = False

    def put(self, data: bytes) -> None:
        if self._end is not None or self._closed:
            return
        if len(self._messages) >= self._max_pending or self._pending_bytes + len(data) > MAX_PENDING_BYTES:
            self.overflow()
            return
        self._messages.append(data)
        self._pending_bytes += len(data)
        self._changed.set()

    def overflow(self) -> None:
        """A message was lost because the reader is too slow."""
        self.end(Unavailable("bus.overflow", "a subscription overflowed: its reader is too slow"))

    def end(self, error: MoontideError) -> None:
        """No message follows; the reader gets ``error`` after those that are here."""
        self._end = self._end or error
        self._changed.set()

    async def next(self, timeout_seconds: float) -> bytes | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return None
        return self._take()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await self._changed.wait()
            if self._closed:
                return
            yield self._take()

    def _take(self) -> bytes:
        if self._closed:
            raise Unavailable("bus.closed", "the subscription is closed")
        if not self._messages:
            assert self._end is not None, "woken without a reason"
            raise self._end
        data = self._messages.popleft()
        self._pending_bytes -= len(data)
        if not self._messages and self._end is None:
            self._changed.clear()
        return data

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._messages.clear()
        self._changed.set()
        await self._on_close()
