"""One tool call as a job on the work queue, and its one outcome.

Input: a ``ToolJob`` whose intent is in the ledger. Output: its ``ToolFinished``: heard live, or read from the record
that is kept before it is published. Safe to do again under the same call id. It must not know what tools do.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from schemas import names
from schemas.codec import decode, encode
from schemas.tools import ToolCancelled, ToolFinished, ToolJob, ToolOutcome, ToolProgress
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus, Subscription
from shared.clock import Clock
from shared.errors import Internal, MoontideError

log = logging.getLogger("coordinator")

OUTCOMES = "tool-outcomes"
SILENCE_SECONDS = 2.0
"""Without a word for so long the record is looked at: the outcome may have been missed."""
ENQUEUE_AGAIN_SECONDS = 150.0
"""Longer than the queue remembers ids: a job that was lost with its queue comes back, any other is done once."""
FULL_QUEUE_SECONDS = 1.0

Tell = Callable[[str], Awaitable[None]]
"""Progress in words."""


class ToolDesk:
    def __init__(self, bus: Bus, clock: Clock, blobs: BlobStore) -> None:
        self._bus = bus
        self._clock = clock
        self._blobs = blobs

    async def run(self, job: ToolJob, tell: Tell, *, known: bool) -> ToolFinished:
        """The outcome, however long it takes. ``known``: the job may have been enqueued before, so that its outcome
        may be on record. Whoever stops waiting leaves the job at work: the run's next owner waits for it."""
        if known and (finished := await self._recorded(job.call_id)) is not None:
            return finished
        outcomes = await self._bus.subscribe(names.tool_outcome(job.call_id))
        try:
            return await self._outcome(job, outcomes, tell)
        finally:
            with suppress(MoontideError):
                await outcomes.close()

    async def cancel(self, call_id: str) -> None:
        """Nobody will ever want the outcome."""
        await self._bus.publish(names.tool_control(call_id), encode(ToolCancelled(call_id=call_id)))

    async def _outcome(self, job: ToolJob, outcomes: Subscription, tell: Tell) -> ToolFinished:
        enqueued_at = await self._enqueue(job)
        while True:
            data = await outcomes.next(SILENCE_SECONDS)
            if data is None:
                if (recorded := await self._recorded(job.call_id)) is not None:
                    return recorded
                if self._clock.monotonic_seconds() - enqueued_at > ENQUEUE_AGAIN_SECONDS:
                    enqueued_at = await self._enqueue(job)
                continue
            match _decoded(data):
                case ToolFinished() as finished:
                    return finished
                case ToolProgress(text=text):
                    await tell(text)

    async def _enqueue(self, job: ToolJob) -> float:
        """Monotonic seconds at which the job was durable; a full or missing queue is tried again."""
        while True:
            try:
                await self._bus.enqueue(names.tool_requested(job.call_id), encode(job), message_id=job.call_id)
                return self._clock.monotonic_seconds()
            except MoontideError as error:
                if not error.retryable:
                    raise
                log.warning("tool job not enqueued", extra={"call_id": job.call_id, "code": error.code})
                await self._clock.sleep(error.retry_after_seconds or FULL_QUEUE_SECONDS)

    async def _recorded(self, call_id: str) -> ToolFinished | None:
        try:
            data = await self._blobs.get_record(OUTCOMES, call_id)
        except MoontideError as error:
            log.warning("tool outcomes cannot be read", extra={"call_id": call_id, "code": error.code})
            return None
        return None if data is None else decode(data, ToolFinished)


def _decoded(data: bytes) -> ToolProgress | ToolFinished:
    try:
        return decode(data, ToolOutcome)  # type: ignore[arg-type]
    except msgspec.DecodeError as error:
        raise Internal("tool.outcome", "a tools process answered in words that are not understood") from error
