"""One media job to a stored manifest: cached, or decoded in a worker and stored blob by blob.

Input: ``MediaJob``. Output: the manifest and its reference. Content-addressed and derived names make it safe to run
twice. Must not know bus, progress or spans.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from schemas.blobs import BlobRef
from schemas.codec import decode, encode
from schemas.media import MediaChunk, MediaFrame, MediaJob, MediaManifest
from services.ingest.exchange import (
    Decoded,
    DecodedChunk,
    DecodeLimits,
    DecodeRequest,
    chunk_file,
    frame_file,
    sheet_file,
)
from services.ingest.pool import Report, WorkerPool
from services.ingest.scratch import job_folder
from shared.blobs.derived import derived_key
from shared.errors import BadInput, Internal
from shared.media.geometry import PATCH

if TYPE_CHECKING:
    from shared.blobs.store import BlobStore

OPERATION = "prepare-media"
REVISION = 1
"""Goes up with every change here that changes a manifest or its blobs."""
PATCH_BYTES = 3 * PATCH * PATCH


def code_version() -> str:
    """Everything whose change may change a result: our revision and the decoders."""
    packages = ("av", "pillow", "opencv-python-headless", "numpy")
    return " ".join([f"moontide-ingest={REVISION}", *(f"{name}={version(name)}" for name in packages)])


@dataclass(frozen=True)
class Limits:
    decode: DecodeLimits
    max_source_bytes: int


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept under the derived key, and what the span says."""

    manifest: BlobRef
    media_tokens: int
    frames: int
    cached: bool = True


@dataclass(frozen=True)
class Preparation:
    """Given a store, a pool and a scratch folder; ``prepare`` may run many times at once."""

    blobs: "BlobStore"
    pool: WorkerPool
    folder: Path
    limits: Limits
    decoding: Callable[[MediaJob], AbstractContextManager[object]]
    """Entered around the decoding of a job: its span."""
    version: str = field(default_factory=code_version)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def prepare(self, job: MediaJob, report: Report) -> Prepared:
        """Raises BadInput naming the input, NotFound without a source, Unavailable when a part of ours is missing."""
        key = derived_key(job.source.key, OPERATION, encode((job.kind, job.options)), self.version)
        async with self._alone(key):
            known = await self.blobs.get_derived(key)
            if known is not None:
                return decode(known, Prepared)
            if job.source.size_bytes > self.limits.max_source_bytes:
                raise BadInput("media.too_large", f"more than {self.limits.max_source_bytes} bytes")
            prepared = await self._decode_and_store(job, report)
            await self.blobs.put_derived(key, encode(prepared))
            return msgspec.structs.replace(prepared, cached=False)

    async def _decode_and_store(self, job: MediaJob, report: Report) -> Prepared:
        with job_folder(self.folder) as folder:
            source = folder / "source"
            report("fetching source")
            await self.blobs.save(job.source, source)
            request = DecodeRequest(
                source=str(source),
                output=str(folder),
                kind=job.kind,
                options=job.options,
                limits=self.limits.decode,
            )
            report("decoding")
            with self.decoding(job):
                decoded = await self.pool.decode(request, report)
            report("storing results")
            manifest = await self._store(job, decoded, folder)
        return Prepared(
            manifest=await self.blobs.put(encode(manifest)),
            media_tokens=manifest.media_tokens,
            frames=len(manifest.frames),
        )

    async def _store(self, job: MediaJob, decoded: Decoded, folder: Path) -> MediaManifest:
        """The manifest, all of whose blobs are stored."""
        jpegs = [await self._put(frame_file(folder, position)) for position in range(len(decoded.frames))]
        patches = [await self._put_patches(folder, n, chunk) for n, chunk in enumerate(decoded.chunks)]
        return MediaManifest(
            kind=job.kind,
            width=decoded.width,
            height=decoded.height,
            duration_seconds=decoded.duration_seconds,
            source_frames_per_second=decoded.source_frames_per_second,
            source_frames=decoded.source_frames,
            frames=tuple(
                MediaFrame(index=frame.index, timestamp_seconds=frame.timestamp_seconds, jpeg=jpeg)
                for frame, jpeg in zip(decoded.frames, jpegs, strict=True)
            ),
            chunks=tuple(
                MediaChunk(**msgspec.structs.asdict(chunk), patches=blob)
                for chunk, blob in zip(decoded.chunks, patches, strict=True)
            ),
            media_tokens=decoded.media_tokens,
            scene_cuts_seconds=decoded.scene_cuts_seconds,
            contact_sheet=await self._put(sheet_file(folder)) if decoded.contact_sheet else None,
        )

    async def _put(self, path: Path) -> BlobRef:
        return await self.blobs.put(await asyncio.to_thread(path.read_bytes))

    async def _put_patches(self, folder: Path, position: int, chunk: DecodedChunk) -> BlobRef:
        blob = await self._put(chunk_file(folder, position))
        if blob.size_bytes != math.prod(chunk.grid) * PATCH_BYTES:
            raise Internal("ingest.bad_result", "a decoder worker left a result of the wrong size")
        return blob

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Equal jobs of this process one after the other: the second finds the first one's result."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield
