"""Pulling from a durable reader of a stream: shared by work queues and logs.

In: how many messages are wanted. Out: those that came, soon. A lost connection, a deleted reader and a stopping
caller are noticed at once. What is done with messages is not known here.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext

from shared.bus.failures import translated
from shared.bus.link import Link
from shared.errors import Unavailable

PULL_SECONDS = 2.0
RETRY_SECONDS = 0.25


@asynccontextmanager
async def pulling(link: Link, stream: str, durable: str, stopping: asyncio.Event) -> AsyncIterator["Pull"]:
    with translated():
        subscription = await link.streams.pull_subscribe_bind(durable, stream)
    try:
        yield Pull(link, subscription, stopping)
    finally:
        await link.client.end(subscription._sub)


class Pull:
    """Valid for one connection: after a reconnect the server knows nothing of what was asked for before."""

    def __init__(self, link: Link, subscription: JetStreamContext.PullSubscription, stopping: asyncio.Event) -> None:
        self._link = link
        self._subscription = subscription
        self._stopping = stopping
        self._lost = link.lost

    async def next(self, batch: int) -> list[Msg]:
        """Up to ``batch`` messages; none when none came in time or the caller stops.

        Raises Unavailable or NotFound when the connection, the stream or the reader is gone.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        fetching = asyncio.create_task(self._subscription.fetch(batch, timeout=PULL_SECONDS))
        await first(fetching, self._stopping.wait(), self._lost.wait())
        await _cancelled(fetching)
        with translated():
            messages = _result(fetching)
        if not messages and self._lost.is_set():
            raise Unavailable("bus.disconnected", "the bus is not connected")
        if not messages and loop.time() - started < RETRY_SECONDS:
            await pause(self._stopping, RETRY_SECONDS)  # refused at once (reader deleted, …): do not spin
        return messages


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Sleep, but not into a stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def first(task: "asyncio.Task[list[Msg]]", *others: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them is done; the others are cancelled, ``task`` is not."""
    waiting = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait({task, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        for other in waiting:
            other.cancel()


async def _cancelled(task: "asyncio.Task[list[Msg]]") -> None:
    task.cancel()
    await asyncio.wait({task})


def _result(fetching: "asyncio.Task[list[Msg]]") -> list[Msg]:
    if fetching.cancelled():
        return []
    try:
        return fetching.result()
    except (NatsTimeout, TimeoutError):
        return []
