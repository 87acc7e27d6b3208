"""The ``n`` choices of one chat: calls that differ in their seed only, and share their prompt.

Input: a ``ChatRequest``, streams of items. Output: one request per choice, and one stream of (index, item). It must not
know what the items are.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

import msgspec

from schemas.chat import ChatFinished, ChatRequest, Usage

T = TypeVar("T")

SEED_BYTES = 8


def requests(request: ChatRequest, count: int) -> tuple[ChatRequest, ...]:
    """The first is ``request`` itself: asking for more choices does not change it. ``request`` has a seed."""
    assert request.sampling.seed is not None
    further = [derived_seed(request.sampling.seed, index) for index in range(1, count)]
    return (request, *(_with_seed(request, seed) for seed in further))


def derived_seed(seed: int, index: int) -> int:
    """Not negative; at most 63 bits."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=SEED_BYTES).digest()
    return int.from_bytes(digest, "little") >> 1


def _with_seed(request: ChatRequest, seed: int) -> ChatRequest:
    return msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, seed=seed))


def usage_of_all(finished: Sequence[ChatFinished]) -> Usage:
    """The prompt counts once."""
    first = finished[0].usage
    return msgspec.structs.replace(
        first,
        completion_tokens=sum(item.usage.completion_tokens for item in finished),
        reasoning_tokens=sum(item.usage.reasoning_tokens for item in finished),
    )


async def interleaved(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Items of all streams as they come. The others begin when the first has given its first item, since by then the
    engine holds the prompt that they share. Closing it closes all; what one raises ends all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as items:
            async for item in items:
                yield 0, item
        return
    steps = {_step(streams[0]): 0}
    waiting = list(range(1, len(streams)))
    try:
        while steps:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            steps |= {_step(streams[index]): index for index in waiting}
            waiting = []
            for step in sorted(done, key=steps.__getitem__):
                index = steps[step]
                try:
                    item = step.result()
                except StopAsyncIteration:
                    continue
                finally:
                    del steps[step]
                steps[_step(streams[index])] = index
                yield index, item
    finally:
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def _step(stream: AsyncGenerator[T, None]) -> asyncio.Task[T]:
    return asyncio.create_task(_next(stream))


async def _next(stream: AsyncGenerator[T, None]) -> T:
    return await anext(stream)
