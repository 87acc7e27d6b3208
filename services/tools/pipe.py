"""A pipe to a program that is being started, and waiting for a descriptor without a thread.

Input: nothing. Output: two ends, closed together. Must not know what is said through it.
"""

import asyncio
import os
from io import FileIO
from types import TracebackType
from typing import Self

MAX_BYTES = 65536


class Pipe:
    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader = FileIO(reader, "rb")
        self.writer = FileIO(writer, "wb")

    async def read_to(self, last: bytes) -> bytes:
        """Up to ``last``, or nothing when every writer is gone before."""
        data = b""
        while last not in data:
            await readable(self.reader.fileno())
            piece = self.reader.read(MAX_BYTES)
            if not piece:
                return b""
            data += piece
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reader.close()
        self.writer.close()


async def readable(descriptor: int) -> None:
    """Returns when reading would not wait; for a pidfd, when its process has ended."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
