"""The blob store: content-addressed blobs, derived results and named records, in a directory or an S3 bucket.

Writes are atomic and idempotent; reads verify size and hash, so a truncated or damaged blob is an error, never an
answer. Layout: ``sha256/<hex>``, ``derived/<hex>``, ``records/<kind>/<name>``. It must not know what bytes mean.
"""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import obstore
from obstore.store import ObjectStore

from schemas.blobs import INLINE_MAX_BYTES, BlobRef, Payload
from shared.blobs.edge import created, foreign_errors, open_store
from shared.blobs.lifetimes import (
    COLLECT_MAX_OBJECTS,
    CollectReport,
    Lifetimes,
    StoredObject,
    expired,
    remove_abandoned,
)
from shared.blobs.spool import Spool
from shared.errors import Internal, NotFound

if TYPE_CHECKING:
    from obstore import ObjectMeta

_BLOB_KEY = re.compile(r"sha256/[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
_CHUNK_BYTES = 1024 * 1024
_S3_PART_BYTES = 8 * 1024 * 1024
"""S3 takes no parts under 5 MiB, and at most 10,000 of them."""
_UPLOAD_PARTS = 2
"""Parts of one upload in flight: with the size of a part this bounds the memory of an upload."""


class BlobStore:
    """All methods raise Unavailable(``blob.unavailable``) when the store itself fails."""

    def __init__(self, store: ObjectStore, root: Path | None = None) -> None:
        self._store = store
        self._root = root
        self._part_bytes = _S3_PART_BYTES if root is None else _CHUNK_BYTES

    @classmethod
    def open(cls, url: str) -> Self:
        """``file:///directory`` (created if missing) or ``s3://bucket/prefix``."""
        return cls(*open_store(url))

    @property
    def directory(self) -> Path | None:
        """Where the store keeps its objects; None for a bucket."""
        return self._root

    async def put(self, data: bytes) -> BlobRef:
        """Store ``data`` under its hash. Equal bytes are stored once; their lifetime starts anew."""
        ref = BlobRef(key=f"sha256/{await _sha256(data)}", size_bytes=len(data))
        await self._write(ref.key, data)
        return ref

    def spool(self, max_bytes: int | None = None) -> Spool:
        """A writer for bytes that arrive in pieces; ``write`` refuses more than ``max_bytes`` (``blob.too_large``)."""
        return Spool(self._publish, self._root, max_bytes)

    async def get(self, ref: BlobRef) -> bytes:
        """The bytes. Raises NotFound(``blob.not_found``), Internal(``blob.damaged``) if they are not what was put."""
        with foreign_errors(ref.key):
            result = await obstore.get_async(self._store, _checked(ref))
            if result.meta["size"] != ref.size_bytes:
                raise _damaged(ref)
            data = bytes(await result.bytes_async())
        if f"sha256/{await _sha256(data)}" != ref.key:
            raise _damaged(ref)
        return data

    async def stream(self, ref: BlobRef) -> AsyncGenerator[bytes, None]:
        """The bytes in pieces of about a megabyte. Errors as ``get``; a wrong hash is noticed only at the end."""
        digest = hashlib.sha256()
        with foreign_errors(ref.key):
            result = await obstore.get_async(self._store, _checked(ref))
            if result.meta["size"] != ref.size_bytes:
                raise _damaged(ref)
            async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
                yield bytes(chunk)
        if f"sha256/{digest.hexdigest()}" != ref.key:
            raise _damaged(ref)

    async def save(self, ref: BlobRef, path: Path) -> None:
        """Stream the blob into ``path``, which appears whole or not at all. Errors as ``get``."""
        with foreign_errors(f"directory of {path.name}"):
            file = await asyncio.to_thread(tempfile.NamedTemporaryFile, dir=path.parent, delete=False)
        partial = Path(file.name)
        try:
            with file:
                async with aclosing(self.stream(ref)) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(partial.replace, path)
        except OSError as error:
            raise Internal("blob.save_failed", "a blob could not be written to a file") from error
        finally:
            await asyncio.to_thread(partial.unlink, missing_ok=True)

    async def exists(self, ref: BlobRef) -> bool:
        """Whether the blob is there in its size; its bytes are not read."""
        try:
            with foreign_errors(ref.key):
                meta = await obstore.head_async(self._store, _checked(ref))
        except NotFound:
            return False
        return meta["size"] == ref.size_bytes

    async def delete(self, ref: BlobRef) -> None:
        """Remove the blob; nothing happens if it is not there."""
        await self._remove(_checked(ref))

    async def resolve(self, payload: Payload) -> bytes:
        return payload if isinstance(payload, bytes) else await self.get(payload)

    async def inline_or_put(self, data: bytes) -> Payload:
        return data if len(data) <= INLINE_MAX_BYTES else await self.put(data)

    async def put_derived(self, key: str, data: bytes) -> None:
        """Store a derived result under ``derived_key(…)``. The last writer wins: all writers hold equal results."""
        await self._write(f"derived/{_name(key)}", data)

    async def get_derived(self, key: str) -> bytes | None:
        return await self._read(f"derived/{_name(key)}")

    async def put_record(self, kind: str, name: str, data: bytes) -> None:
        await self._write(f"records/{_name(kind)}/{_name(name)}", data)

    async def keep_record(self, kind: str, name: str, data: bytes) -> bytes:
        """Stores the record unless there is one: the first writer wins. Returns what is kept."""
        path = f"records/{_name(kind)}/{_name(name)}"
        if not await created(self._store, path, data):
            kept = await self._read(path)
            if kept is not None:
                return kept
            await self._write(path, data)  # removed in between: nobody's any more
        return data

    async def get_record(self, kind: str, name: str) -> bytes | None:
        return await self._read(f"records/{_name(kind)}/{_name(name)}")

    async def delete_record(self, kind: str, name: str) -> bool:
        """True if the record was there."""
        path = f"records/{_name(kind)}/{_name(name)}"
        existed = await self._read(path) is not None
        await self._remove(path)
        return existed

    async def list_records(self, kind: str) -> list[str]:
        """Names of all records of a kind, sorted."""
        pages = self._pages(f"records/{_name(kind)}/")
        return sorted([item.path.rsplit("/", 1)[1] async for page in pages for item in page])

    async def collect(self, now_unix_seconds: float, lifetimes: Lifetimes) -> CollectReport:
        """Remove what has outlived its class, oldest first. References go before the blobs they point at."""
        removed: list[StoredObject] = []
        for prefix, seconds in (
            ("records/", lifetimes.record_seconds),
            ("derived/", lifetimes.derived_seconds),
            ("sha256/", lifetimes.blob_seconds),
        ):
            due = await self._expired(prefix, now_unix_seconds - seconds, COLLECT_MAX_OBJECTS - len(removed))
            for item in due:
                await self._remove(item.path)
            removed += due
        if self._root is not None:
            with foreign_errors("directory"):
                await asyncio.to_thread(remove_abandoned, self._root, now_unix_seconds)
        return CollectReport(
            removed=len(removed),
            freed_bytes=sum(item.size_bytes for item in removed),
            more=len(removed) == COLLECT_MAX_OBJECTS,
        )

    async def written(self, ref: BlobRef) -> float | None:
        """When the blob was last stored, in Unix seconds by the store's clock; None when it is not there."""
        try:
            with foreign_errors(ref.key):
                return (await obstore.head_async(self._store, _checked(ref)))["last_modified"].timestamp()
        except NotFound:
            return None

    async def _publish(self, ref: BlobRef, file: IO[bytes]) -> bool:
        was_there = await self.written(ref) is not None
        await asyncio.to_thread(file.seek, 0)
        await self._write(ref.key, file)
        return was_there

    async def _write(self, path: str, data: bytes | IO[bytes]) -> None:
        with foreign_errors(path):
            await obstore.put_async(self._store, path, data, chunk_size=self._part_bytes, max_concurrency=_UPLOAD_PARTS)

    async def _read(self, path: str) -> bytes | None:
        try:
            with foreign_errors(path):
                return bytes(await (await obstore.get_async(self._store, path)).bytes_async())
        except NotFound:
            return None

    async def _remove(self, path: str) -> None:
        with suppress(NotFound), foreign_errors(path):
            await obstore.delete_async(self._store, path)

    async def _expired(self, prefix: str, before_unix_seconds: float, limit: int) -> list[StoredObject]:
        """Page by page, so that memory is bounded by ``limit`` and not by the size of the store."""
        due: list[StoredObject] = []
        async for page in self._pages(prefix):
            due = expired([*due, *page], before_unix_seconds, limit)
        return due

    async def _pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        with foreign_errors(prefix):
            async for page in obstore.list(self._store, prefix=prefix):
                yield [_stored(item) for item in page]


def _stored(item: "ObjectMeta") -> StoredObject:
    return StoredObject(
        path=item["path"], size_bytes=item["size"], written_unix_seconds=item["last_modified"].timestamp()
    )


async def _sha256(data: bytes) -> str:
    """Large values are hashed in a thread, so that the event loop keeps beating."""
    if len(data) <= _CHUNK_BYTES:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()


def _checked(ref: BlobRef) -> str:
    """References arrive in messages: a key that is no hash must not become a path."""
    if not _BLOB_KEY.fullmatch(ref.key):
        raise NotFound("blob.not_found", "not a blob key")
    return ref.key


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be part of an object's path")
    return name


def _damaged(ref: BlobRef) -> Internal:
    return Internal("blob.damaged", f"{ref.key} is not what was stored")
