"""A blob whose bytes arrive in pieces: hashed while they are written, never whole in memory.

The bytes wait in an anonymous temporary file, so that an interrupted upload, a killed process included, leaves
nothing behind. The object appears under its hash, whole, when the ``async with`` block ends well.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from schemas.blobs import BlobRef
from shared.blobs.edge import foreign_errors
from shared.errors import BadInput

Publish = Callable[[BlobRef, IO[bytes]], Awaitable[bool]]
"""Answers whether there was such a blob before."""


class Spool:
    """Use with ``async with``; ``ref`` is there after the block. Raises BadInput(``blob.too_large``) in ``write``."""

    def __init__(self, publish: Publish, directory: Path | None, max_bytes: int | None) -> None:
        self._publish = publish
        self._directory = directory
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._file: IO[bytes] | None = None
        self._ref: BlobRef | None = None
        self.was_there = False
        """After the block: whether somebody had stored the same bytes before."""

    @property
    def ref(self) -> BlobRef:
        if self._ref is None:
            raise RuntimeError("a spool has a reference only after its block ended well")
        return self._ref

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def __aenter__(self) -> Self:
        with foreign_errors("spool directory"):
            self._file = await asyncio.to_thread(tempfile.TemporaryFile, dir=self._directory)
        return self

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self._file is not None, "write outside of the block"
        self._size_bytes += len(data)
        if self._max_bytes is not None and self._size_bytes > self._max_bytes:
            raise BadInput("blob.too_large", f"larger than the limit of {self._max_bytes} bytes", status=413)
        with foreign_errors("spool file"):
            await asyncio.to_thread(self._append, self._file, data)

    def _append(self, file: IO[bytes], data: bytes | bytearray | memoryview) -> None:
        self._digest.update(data)
        file.write(data)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if error is None:
                ref = BlobRef(key=f"sha256/{self._digest.hexdigest()}", size_bytes=self._size_bytes)
                self.was_there = await self._publish(ref, self._file)
                self._ref = ref
        finally:
            self._file.close()
