"""Is it a picture that can be shown? Asked of ingest, before a model is shown it.

A picture that ingest cannot open would be refused with every later request of its run. What ingest prepares here is
kept as a derived result, so that the model's request finds it. Input: a media part. Output: its manifest, or the
refusal in ingest's words. Must not know tools.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Part, TextPart
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaManifest, MediaOutcome, MediaPrepared
from schemas.request import RequestContext
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus, Subscription
from shared.errors import Internal, MoontideError, Unavailable, from_failure

FIRST_SILENCE_SECONDS = 5.0

MediaCheck = Callable[[RequestContext, MediaPart], Awaitable[MediaManifest]]
"""Raises BadInput for what cannot be shown, Unavailable when nobody can say."""


@dataclass(frozen=True)
class AskIngest:
    bus: Bus
    blobs: BlobStore
    seconds: float = 120.0

    async def __call__(self, context: RequestContext, part: MediaPart) -> MediaManifest:
        """Silence is answered by asking again, twice as long each time: a job is safe to run twice."""
        silence = FIRST_SILENCE_SECONDS
        try:
            async with asyncio.timeout(self.seconds):
                while (reference := await self._ask(context, part, silence)) is None:
                    silence *= 2
        except TimeoutError:
            text = f"{part.name}: was not looked at in time"
            raise Unavailable("media.unanswered", text, param=part.name, status=502) from None
        try:
            return decode(await self.blobs.get(reference), MediaManifest)
        except msgspec.MsgspecError as error:
            raise Internal("media.bad_manifest", "a media manifest is damaged") from error

    async def _ask(self, context: RequestContext, part: MediaPart, silence_seconds: float) -> BlobRef | None:
        job = MediaJob(job_id=uuid.uuid4().hex, context=context, source=part.source, kind=part.kind, name=part.name)
        outcomes = await self.bus.subscribe(names.media_outcome(job.job_id))
        try:
            await self.bus.enqueue(names.media_requested(job.job_id), encode(job), message_id=job.job_id)
            return await self._outcome(outcomes, silence_seconds)
        finally:
            await outcomes.close()

    async def _outcome(self, outcomes: Subscription, silence_seconds: float) -> BlobRef | None:
        while (data := await outcomes.next(silence_seconds)) is not None:
            outcome = decode(data, MediaOutcome)  # type: ignore[arg-type]
            if isinstance(outcome, MediaPrepared):
                return outcome.manifest
            if isinstance(outcome, MediaFailed):
                raise from_failure(outcome.failure)
        return None


async def showable(check: MediaCheck, context: RequestContext, content: Sequence[Part]) -> tuple[Part, ...]:
    """``content`` with words in place of what cannot be shown."""
    return tuple(await asyncio.gather(*(_shown(check, context, part) for part in content)))


async def _shown(check: MediaCheck, context: RequestContext, part: Part) -> Part:
    if not isinstance(part, MediaPart):
        return part
    try:
        await check(context, part)
    except MoontideError as error:
        return TextPart(text=f"[{part.kind} not shown: {error.message}]")
    return part
