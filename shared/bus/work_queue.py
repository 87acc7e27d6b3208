"""The reader of a work queue: pulls jobs one by one into ``in_flight`` slots, renews, settles, parks, drains.

Each slot asks for one job at a time, so that the bound refills one by one and no job waits here unrenewed. A stream
or reader that has vanished is declared again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from schemas import names
from schemas.codec import encode
from schemas.parked import ParkedJob
from shared.bus import streams
from shared.bus.failures import translated
from shared.bus.interface import Job, JobHandler, ParkedHandler, WorkQueue
from shared.bus.link import Link
from shared.bus.pull import RETRY_SECONDS, Pull, pause, pulling
from shared.bus.settlement import Again, Done, Parked, Settlement, after, before
from shared.errors import MoontideError

log = logging.getLogger("bus")

RENEWALS_PER_WAIT = 3


@asynccontextmanager
async def consumed(
    link: Link, queue: WorkQueue, handler: JobHandler, in_flight: int, on_parked: ParkedHandler | None
) -> AsyncIterator[None]:
    """Jobs are handled while the context is open; on exit running ones finish and no new one starts."""
    await streams.declare_queue(link, queue)
    reader = _Reader(link, queue, handler, on_parked)
    slots = [asyncio.create_task(reader.run(), name=f"{queue.durable}-{number}") for number in range(in_flight)]
    try:
        yield
    finally:
        reader.stop()
        try:
            await asyncio.gather(*slots)
        finally:
            for slot in slots:
                slot.cancel()


class _Reader:
    def __init__(self, link: Link, queue: WorkQueue, handler: JobHandler, on_parked: ParkedHandler | None) -> None:
        self._link = link
        self._queue = queue
        self._handler = handler
        self._on_parked = on_parked
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """One slot, until stopped."""
        while not self._stopping.is_set():
            try:
                async with pulling(self._link, self._queue.stream, self._queue.durable, self._stopping) as pull:
                    await self._work(pull)
            except MoontideError as error:
                log.warning("work queue interrupted", extra={"queue": self._queue.stream, "code": error.code})
                await self._recover()

    async def _recover(self) -> None:
        """Stream and reader are there again, whoever took them away."""
        await pause(self._stopping, RETRY_SECONDS)
        while not self._stopping.is_set() and not self._link.connected.is_set():
            await pause(self._stopping, RETRY_SECONDS)
        if not self._stopping.is_set():
            with suppress(MoontideError):
                await streams.declare_queue(self._link, self._queue)

    async def _work(self, pull: Pull) -> None:
        while not self._stopping.is_set():
            for message in await pull.next(1):
                if self._stopping.is_set():
                    await self._again(message, 0.0)
                else:
                    await self._settle(message)

    async def _settle(self, message: Msg) -> None:
        job = Job(subject=message.subject, data=message.data, attempt_number=message.metadata.num_delivered)
        try:
            async with self._renewed(message):
                settlement = before(job.attempt_number, self._queue.max_attempts) or await self._handle(job)
                if isinstance(settlement, Parked):
                    await self._park(job, message, settlement.reason)
        except MoontideError as error:
            log.warning("job could not be parked", extra={"subject": job.subject, "code": error.code})
            settlement = Again(error.retry_after_seconds or RETRY_SECONDS)
        if isinstance(settlement, Again):
            await self._again(message, settlement.delay_seconds)
        else:
            await self._ack(message)

    async def _handle(self, job: Job) -> Settlement:
        try:
            await self._handler(job)
        except Exception as error:
            settlement = after(error, job.attempt_number, self._queue.max_attempts)
            extra = {"subject": job.subject, "attempt_number": job.attempt_number, "outcome": repr(settlement)}
            log.warning("job failed", exc_info=not isinstance(error, MoontideError), extra=extra)
            return settlement
        return Done()

    async def _park(self, job: Job, message: Msg, reason: str) -> None:
        if self._on_parked is not None:
            await self._tell(job, reason)
        job_id = job.subject.rsplit(".", 1)[-1]
        parked = ParkedJob(
            stream=self._queue.stream,
            durable=self._queue.durable,
            subject=job.subject,
            data=job.data,
            deliveries=job.attempt_number,
            reason=reason,
        )
        subject = names.parked(self._queue.stream, self._queue.durable, job_id)
        message_id = f"{self._queue.stream}-{self._queue.durable}-{message.metadata.sequence.stream}"
        with translated():
            await streams.store(self._link, subject, encode(parked), message_id)
        log.error("job parked", extra={"subject": job.subject, "reason": reason})

    async def _tell(self, job: Job, reason: str) -> None:
        """Raises a retryable MoontideError (parked later, then); any other failure must not keep the job here."""
        assert self._on_parked is not None
        try:
            await self._on_parked(job, reason)
        except Exception as error:
            if isinstance(error, MoontideError) and error.retryable:
                raise
            log.exception("on_parked failed", extra={"subject": job.subject})

    @asynccontextmanager
    async def _renewed(self, message: Msg) -> AsyncIterator[None]:
        """The server does not deliver the job to another reader while this is open."""
        renewing = asyncio.create_task(self._renew(message))
        try:
            yield
        finally:
            renewing.cancel()

    async def _renew(self, message: Msg) -> None:
        while not message.is_acked:
            await asyncio.sleep(self._queue.ack_wait_seconds / RENEWALS_PER_WAIT)
            with suppress(NatsError, OSError):
                await message.in_progress()

    async def _ack(self, message: Msg) -> None:
        try:
            await self._link.send_outbox()
            with translated():
                await message.ack()
        except MoontideError as error:
            log.warning("acknowledgement lost: the job will come again", extra={"code": error.code})

    async def _again(self, message: Msg, delay_seconds: float) -> None:
        with suppress(NatsError, OSError):
            await message.nak(delay_seconds)
