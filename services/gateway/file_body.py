"""A blob as the body of a response, streamed: never whole in memory, dropped when its reader does not read.

Input: a request, a reference and its media type. Output: the response. It must not know what a file is for.
"""

import asyncio
from contextlib import aclosing

from aiohttp import web

from schemas.blobs import BlobRef
from services.gateway.event_stream import drop
from shared.blobs.store import BlobStore
from shared.errors import Cancelled, MoontideError

BYTES = "application/octet-stream"
SHOWN_TYPES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "text/csv", "text/x-diff", "application/json"}
)
"""Files come from models and strangers: no other type is said, so that no browser runs what is in them."""


class FileBodies:
    def __init__(self, blobs: BlobStore, write_timeout_seconds: float) -> None:
        self._blobs = blobs
        self._write_timeout_seconds = write_timeout_seconds

    async def answer(self, request: web.Request, blob: BlobRef, media_type: str = BYTES) -> web.StreamResponse:
        """A damaged blob ends the connection before its last byte counts. Raises NotFound when it is gone."""
        response = web.StreamResponse(
            headers={
                "Content-Type": media_type if media_type in SHOWN_TYPES else BYTES,
                "Content-Disposition": "attachment",
                "X-Content-Type-Options": "nosniff",
            }
        )
        response.content_length = blob.size_bytes
        async with aclosing(self._blobs.stream(blob)) as chunks:
            try:
                async for chunk in chunks:
                    await self._write(request, response, chunk)
            except MoontideError:
                if not response.prepared:
                    raise
                drop(request)
        if not response.prepared:
            await response.prepare(request)
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_seconds):
                if not response.prepared:
                    await response.prepare(request)
                await response.write(chunk)
        except TimeoutError as error:
            raise Cancelled("client.too_slow", "the client did not read the file") from error
