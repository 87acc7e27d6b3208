"""Lines of standard input, read without a thread, so that Ctrl-C ends a waiting prompt at once.

Input: a file descriptor (terminal, pipe or file). Output: lines without their end, then None.
"""

import asyncio
import os

READ_BYTES = 64 * 1024
LINE_MAX_BYTES = 1024 * 1024


class LineReader:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""
        self._ended = False

    async def next(self) -> str | None:
        """The next line, or None at the end of the input. A longer line than the bound is cut into pieces."""
        while b"\n" not in self._pending and not self._ended and len(self._pending) < LINE_MAX_BYTES:
            await self._wait_readable()
            data = os.read(self._descriptor, READ_BYTES)
            self._pending += data
            self._ended = not data
        line, newline, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace") if line or newline else None

    async def _wait_readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, readable.set)
        except PermissionError:
            return  # a regular file is always readable
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
