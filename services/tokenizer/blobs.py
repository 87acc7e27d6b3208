"""The part of the blob store that a tokenizer uses."""

from typing import Protocol

from schemas.blobs import BlobRef, Payload


class Blobs(Protocol):
    async def put(self, data: bytes) -> BlobRef: ...

    async def get(self, ref: BlobRef) -> bytes: ...

    async def resolve(self, payload: Payload) -> bytes: ...

    async def inline_or_put(self, data: bytes) -> Payload: ...
