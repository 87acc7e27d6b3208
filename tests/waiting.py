"""Waiting for a condition instead of for time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], object], timeout_seconds: float = 10.0) -> None:
    """Returns when ``condition()`` is true; TimeoutError when it does not become so."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


async def until_it_is(condition: Callable[[], Awaitable[object]], timeout_seconds: float = 10.0) -> None:
    """As ``until``, for a condition that has to be asked for."""
    async with asyncio.timeout(timeout_seconds):
        while not await condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.05)
