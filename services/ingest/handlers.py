"""A delivered media job to one outcome on the job's own subject, with progress while the work lasts.

Input: jobs of ``MEDIA_QUEUE``. Output: ``MediaProgress`` every half second, then ``MediaPrepared`` or ``MediaFailed``.
Must not know how media is decoded or where it is stored.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from schemas import names
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaPrepared, MediaProgress
from schemas.telemetry import (
    ATTR_MEDIA_CACHED,
    ATTR_MEDIA_FRAMES,
    ATTR_MEDIA_KIND,
    ATTR_MEDIA_TOKENS,
    SPAN_DECODE_MEDIA,
    SPAN_PREPARE_MEDIA,
)
from services.ingest.preparation import Preparation, Prepared
from shared.bus.interface import Bus, Job
from shared.clock import Clock
from shared.errors import BadInput, DeadlineExceeded, MoontideError, Unavailable
from shared.telemetry.request import request_attributes

if TYPE_CHECKING:
    from shared.telemetry.tracing import Telemetry

PROGRESS_SECONDS = 0.5
LOG = logging.getLogger("ingest")


@dataclass
class Stage:
    """What the job is at, in words."""

    text: str = "taken"

    def enter(self, text: str) -> None:
        self.text = text


@dataclass(frozen=True)
class PrepareMedia:
    """``handle`` for deliveries, ``park`` for those that were delivered too often."""

    bus: Bus
    preparation: Preparation
    telemetry: "Telemetry"
    clock: Clock

    async def handle(self, delivery: Job) -> None:
        """Returns when the outcome is published. Raises where trying again can help (the queue delivers again), and
        BadInput (parked) for bytes that are no job."""
        job = _job(delivery)
        try:
            prepared = await self._prepare(job)
        except MoontideError as error:
            if error.retryable:
                raise
            await self._fail(job.job_id, error, job.name)
        else:
            await self._publish(job.job_id, MediaPrepared(job_id=job.job_id, manifest=prepared.manifest))

    async def park(self, delivery: Job, reason: str) -> None:
        """Answers whoever waits for a job that nobody could finish."""
        LOG.error("media job parked", extra={"subject": delivery.subject, "reason": reason})
        error = Unavailable("ingest.parked", "the media could not be prepared; the decoder service failed repeatedly")
        try:
            job = _job(delivery)
        except BadInput as malformed:
            await self._fail(_job_id(delivery), malformed, None)
        else:
            await self._fail(job.job_id, error, job.name)

    async def _prepare(self, job: MediaJob) -> Prepared:
        stage = Stage()
        remaining = job.context.deadline_unix_seconds - self.clock.unix_seconds()
        with self.telemetry.span(
            SPAN_PREPARE_MEDIA,
            parent=job.context.traceparent,
            kind="consumer",
            attributes=request_attributes(job.context) | {ATTR_MEDIA_KIND: job.kind},
        ) as span:
            try:
                async with self._progress(job.job_id, stage), asyncio.timeout(remaining):
                    prepared = await self.preparation.prepare(job, stage.enter)
            except TimeoutError as error:
                raise DeadlineExceeded("media.deadline", "was not prepared before the request's deadline") from error
            span.set_attribute(ATTR_MEDIA_CACHED, prepared.cached)
            span.set_attribute(ATTR_MEDIA_TOKENS, prepared.media_tokens)
            span.set_attribute(ATTR_MEDIA_FRAMES, prepared.frames)
            return prepared

    async def _fail(self, job_id: str, error: MoontideError, name: str | None) -> None:
        failure = error.to_failure()
        if name is not None:
            failure = msgspec.structs.replace(failure, message=f"{name}: {failure.message}", param=name)
        await self._publish(job_id, MediaFailed(job_id=job_id, failure=failure))

    async def _publish(self, job_id: str, outcome: MediaPrepared | MediaFailed | MediaProgress) -> None:
        await self.bus.publish(names.media_outcome(job_id), encode(outcome))

    @asynccontextmanager
    async def _progress(self, job_id: str, stage: Stage) -> AsyncIterator[None]:
        """Tells now, and twice a second until the block ends, that somebody works on the job."""
        beats = asyncio.create_task(self._beat(job_id, stage))
        try:
            yield
        finally:
            beats.cancel()
            await asyncio.wait([beats])

    async def _beat(self, job_id: str, stage: Stage) -> None:
        while True:
            try:
                await self._publish(job_id, MediaProgress(job_id=job_id, stage=stage.text))
            except MoontideError as error:
                LOG.warning("progress not published", extra={"code": error.code})
            await self.clock.sleep(PROGRESS_SECONDS)


def decode_span(telemetry: "Telemetry", job: MediaJob) -> AbstractContextManager[object]:
    """Child of the current span: the time in a decoder worker, retries included."""
    return telemetry.span(SPAN_DECODE_MEDIA, kind="internal", attributes={ATTR_MEDIA_KIND: job.kind})


def _job(delivery: Job) -> MediaJob:
    try:
        return decode(delivery.data, MediaJob)
    except msgspec.MsgspecError as error:
        raise BadInput("media.malformed", "not a media job") from error


def _job_id(delivery: Job) -> str:
    """From the subject, whose last token it is."""
    return delivery.subject.rsplit(".", 1)[-1]
