"""Work on a folder in a thread, which is over when the caller goes on, also when he is cancelled meanwhile.

Input: a function that takes a moment. Output: its result. Must not know what it does.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """A thread cannot be cancelled: whoever is, waits for it, so that the next one in the folder is alone there."""
    working = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
