"""Manifests for the media of a request: asked of ingest as jobs, waited for within bounds.

Input: media parts. Output: one ``ReadyMedia`` each, in order; what ingest refuses is raised. A job is safe to run
twice, so silence is answered by asking again under a new id. Knows nothing of decoding or of prompts.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, MediaSummary
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaManifest, MediaOutcome, MediaPrepared
from schemas.request import RequestContext
from services.tokenizer.blobs import Blobs
from shared.bus.interface import Bus, Subscription
from shared.clock import Clock
from shared.errors import DeadlineExceeded, Internal, MoontideError, Unavailable, from_failure


@dataclass(frozen=True)
class ReadyMedia:
    part: MediaPart
    ref: BlobRef
    manifest: MediaManifest

    def summary(self) -> MediaSummary:
        manifest = self.manifest
        return MediaSummary(
            name=self.part.name,
            kind=manifest.kind,
            width=manifest.width,
            height=manifest.height,
            duration_seconds=manifest.duration_seconds,
            sampled_frames=len(manifest.frames),
            chunks=len(manifest.chunks),
            media_tokens=manifest.media_tokens,
            manifest=self.ref,
        )


@dataclass(frozen=True)
class MediaDesk:
    """Where a request gets its manifests."""

    bus: Bus
    blobs: Blobs
    clock: Clock
    silence_seconds: float
    attempts: int
    parallel: int

    async def prepare(self, parts: Sequence[MediaPart], context: RequestContext) -> list[ReadyMedia]:
        """One for each part, in order; equal sources are asked for once. Raises the first failure."""
        room = asyncio.Semaphore(self.parallel)
        try:
            async with asyncio.TaskGroup() as group:
                tasks: dict[tuple[str, str], asyncio.Task[tuple[BlobRef, MediaManifest]]] = {}
                for part in parts:
                    if _identity(part) not in tasks:
                        tasks[_identity(part)] = group.create_task(self._within(room, part, context))
        except ExceptionGroup as failures:
            raise _first(failures) from failures
        return [ReadyMedia(part, *tasks[_identity(part)].result()) for part in parts]

    async def _within(
        self, room: asyncio.Semaphore, part: MediaPart, context: RequestContext
    ) -> tuple[BlobRef, MediaManifest]:
        async with room:
            ref = await self._manifest_ref(part, context)
        try:
            return ref, decode(await self.blobs.get(ref), MediaManifest)
        except msgspec.MsgspecError as error:
            raise Internal("media.bad_manifest", "a media manifest is damaged") from error

    async def _manifest_ref(self, part: MediaPart, context: RequestContext) -> BlobRef:
        for attempt in range(self.attempts):
            # Doubled, so that a long queue at ingest is not answered with a longer one.
            ref = await self._ask(part, context, self.silence_seconds * 2**attempt)
            if ref is not None:
                return ref
        raise Unavailable("media.unanswered", f"{part.name}: nobody prepared the media in time", param=part.name)

    async def _ask(self, part: MediaPart, context: RequestContext, silence_seconds: float) -> BlobRef | None:
        """Asked once. None: nothing was heard for ``silence_seconds``."""
        job = MediaJob(job_id=uuid.uuid4().hex, context=context, source=part.source, kind=part.kind, name=part.name)
        outcomes = await self.bus.subscribe(names.media_outcome(job.job_id))
        try:
            await self.bus.enqueue(names.media_requested(job.job_id), encode(job), message_id=job.job_id)
            return await self._outcome(outcomes, part, context, silence_seconds)
        finally:
            await outcomes.close()

    async def _outcome(
        self, outcomes: Subscription, part: MediaPart, context: RequestContext, silence_seconds: float
    ) -> BlobRef | None:
        while True:
            left = context.deadline_unix_seconds - self.clock.unix_seconds()
            if left <= 0:
                raise DeadlineExceeded("media.deadline", f"{part.name}: not prepared before the deadline")
            data = await outcomes.next(min(silence_seconds, left))
            if data is None and left > silence_seconds:
                return None
            outcome = None if data is None else decode(data, MediaOutcome)  # type: ignore[arg-type]
            if isinstance(outcome, MediaPrepared):
                return outcome.manifest
            if isinstance(outcome, MediaFailed):
                raise from_failure(outcome.failure)


def _identity(part: MediaPart) -> tuple[str, str]:
    return part.source.key, part.kind


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """Our own errors before foreign ones."""
    return next((e for e in failures.exceptions if isinstance(e, MoontideError)), failures.exceptions[0])
