"""Media for an endpoint: ingest opens and judges every input, then it goes as it is, or a video as frames.

Input: the media parts of a request. Output: manifests from ingest (job on the work queue, outcome on its subject),
and content parts with data URIs. It must not know messages, and decodes nothing itself.
"""

import asyncio
import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, MediaSummary
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaManifest, MediaOptions, MediaOutcome, MediaPrepared
from schemas.request import RequestContext
from services.upstream import frames
from services.upstream.config import UpstreamConfig
from services.upstream.formats import media_type
from services.upstream.translate import ContentPart
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus, Subscription
from shared.clock import Clock
from shared.errors import BadInput, DeadlineExceeded, Internal, from_failure

SCENE_CANDIDATES = 8
"""With scene cuts first, ingest offers this many times the frames that may go."""
MAX_PARTS = 256
PARALLEL = 8
"""Inputs of one request that wait for ingest at once."""
FIRST_SILENCE_SECONDS = 10.0


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    part: MediaPart
    reference: BlobRef
    manifest: MediaManifest


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """Content parts per media part, and what the model sees of each."""

    content: tuple[list[ContentPart], ...] = ()
    summaries: tuple[MediaSummary, ...] = ()


@dataclass(frozen=True)
class MediaDesk:
    bus: Bus
    blobs: BlobStore
    clock: Clock
    config: UpstreamConfig

    async def prepare(self, context: RequestContext, parts: Sequence[MediaPart]) -> list[Prepared]:
        """Manifests of all parts. Raises what ingest says of a bad one; it names the input."""
        if len(parts) > MAX_PARTS:
            raise BadInput("media.too_many", f"a request may hold {MAX_PARTS} images and videos", param="messages")
        room = asyncio.Semaphore(PARALLEL)
        asked: dict[tuple[str, str], asyncio.Task[tuple[BlobRef, MediaManifest]]] = {}
        for part in parts:
            if _identity(part) not in asked:
                asked[_identity(part)] = asyncio.create_task(self._within(room, context, part))
        try:
            ready = [await asked[_identity(part)] for part in parts]
        finally:
            for task in asked.values():
                task.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)
        pairs = zip(parts, ready, strict=True)
        return [Prepared(part=part, reference=reference, manifest=manifest) for part, (reference, manifest) in pairs]

    async def render(self, prepared: Sequence[Prepared], *, native: bool) -> Rendered:
        """``native``: videos go as they are; otherwise as frames. Raises BadInput for what is too large to send."""
        whole = [item for item in prepared if native or item.part.kind == "image"]
        self._check_size(whole)
        videos = len(prepared) - len(whole)
        done = [
            await self._as_it_is(item) if native or item.part.kind == "image" else await self._as_frames(item, videos)
            for item in prepared
        ]
        return Rendered(content=tuple(content for content, _ in done), summaries=tuple(summary for _, summary in done))

    def fits(self, prepared: Sequence[Prepared]) -> bool:
        """Whether all of it may be sent as it is."""
        return sum(item.part.source.size_bytes for item in prepared) <= self.config.media_max_bytes

    def _check_size(self, whole: Sequence[Prepared]) -> None:
        if not self.fits(whole):
            largest = max(whole, key=lambda item: item.part.source.size_bytes).part.name
            text = f"{largest}: images and videos of a request may hold {self.config.media_max_bytes} bytes in all"
            raise BadInput("media.too_large", text, param=largest)

    async def _as_it_is(self, item: Prepared) -> tuple[list[ContentPart], MediaSummary]:
        data = await self.blobs.get(item.part.source)
        url = await asyncio.to_thread(_data_uri, data, media_type(data, item.part.kind))
        wrap = frames.image if item.part.kind == "image" else frames.video
        return [wrap(url)], _summary(item.part, item.reference, item.manifest)

    async def _as_frames(self, item: Prepared, videos: int) -> tuple[list[ContentPart], MediaSummary]:
        manifest = item.manifest
        chosen = frames.choose(
            manifest.frames,
            manifest.scene_cuts_seconds,
            how=self.config.frame_choice,
            limit=self.config.max_frames,
            max_bytes=self.config.frames_max_bytes // videos,
        )
        pictures = [_data_uri(await self.blobs.get(frame.jpeg), "image/jpeg") for frame in chosen]
        seen = frames.as_seen(manifest, chosen)
        reference = await self.blobs.put(encode(seen))
        return frames.parts(chosen, pictures, manifest.duration_seconds), _summary(item.part, reference, seen)

    async def _within(
        self, room: asyncio.Semaphore, context: RequestContext, part: MediaPart
    ) -> tuple[BlobRef, MediaManifest]:
        async with room:
            reference = await self._reference(context, part)
        return reference, await self._manifest(reference)

    async def _reference(self, context: RequestContext, part: MediaPart) -> BlobRef:
        """Outcomes may be lost, and a job is safe to run twice: silence is answered by asking again. Twice as long
        each time, so that a long queue at ingest is not answered with a longer one."""
        remaining = context.deadline_unix_seconds - self.clock.unix_seconds()
        give_up_at = self.clock.monotonic_seconds() + min(self.config.media_seconds, remaining)
        silence = FIRST_SILENCE_SECONDS
        while self.clock.monotonic_seconds() < give_up_at:
            reference = await self._ask(context, part, silence, give_up_at)
            if reference is not None:
                return reference
            silence *= 2
        raise DeadlineExceeded("media.timeout", f"{part.name}: was not prepared in time", param=part.name)

    async def _ask(
        self, context: RequestContext, part: MediaPart, silence_seconds: float, give_up_at: float
    ) -> BlobRef | None:
        """Asked once. None: nothing was heard for ``silence_seconds``, or it is too late."""
        job = MediaJob(
            job_id=uuid.uuid4().hex,
            context=context,
            source=part.source,
            kind=part.kind,
            name=part.name,
            options=self._options(part),
        )
        outcomes = await self.bus.subscribe(names.media_outcome(job.job_id))
        try:
            await self.bus.enqueue(names.media_requested(job.job_id), encode(job), message_id=job.job_id)
            return await self._outcome(outcomes, silence_seconds, give_up_at)
        finally:
            await outcomes.close()

    async def _outcome(self, outcomes: Subscription, silence_seconds: float, give_up_at: float) -> BlobRef | None:
        while (left := give_up_at - self.clock.monotonic_seconds()) > 0:
            data = await outcomes.next(min(silence_seconds, left))
            if data is None:
                return None
            outcome = decode(data, MediaOutcome)  # type: ignore[arg-type]
            if isinstance(outcome, MediaPrepared):
                return outcome.manifest
            if isinstance(outcome, MediaFailed):
                raise from_failure(outcome.failure)
        return None

    async def _manifest(self, reference: BlobRef) -> MediaManifest:
        try:
            return decode(await self.blobs.get(reference), MediaManifest)
        except msgspec.MsgspecError as error:
            raise Internal("media.manifest", "a manifest cannot be read") from error

    def _options(self, part: MediaPart) -> MediaOptions:
        if part.kind == "image":
            return MediaOptions()
        more = SCENE_CANDIDATES if self.config.frame_choice == "scenes" else 1
        return MediaOptions(max_frames=self.config.max_frames * more)


def _summary(part: MediaPart, reference: BlobRef, manifest: MediaManifest) -> MediaSummary:
    return MediaSummary(
        name=part.name,
        kind=part.kind,
        width=manifest.width,
        height=manifest.height,
        duration_seconds=manifest.duration_seconds,
        sampled_frames=len(manifest.frames),
        chunks=len(manifest.chunks),
        media_tokens=manifest.media_tokens,
        manifest=reference,
    )


def _identity(part: MediaPart) -> tuple[str, str]:
    """Equal sources are asked for once."""
    return part.source.key, part.kind


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
