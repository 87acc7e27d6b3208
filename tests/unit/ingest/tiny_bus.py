"""As much of the bus as ingest uses, in memory, with the real queue's promises on acks, retries and parking."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas import names
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaOutcome, MediaPrepared, MediaProgress
from shared.bus.interface import Job, JobHandler, ParkedHandler, WorkQueue
from shared.errors import MoontideError


class TinyBus:
    instance = "ingest-test"

    def __init__(self) -> None:
        self.declared: list[WorkQueue] = []
        self.outcomes: dict[str, list[MediaOutcome]] = {}
        self.parked: list[tuple[Job, str]] = []
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._published = asyncio.Event()

    async def publish(self, subject: str, data: bytes) -> None:
        self.outcomes.setdefault(subject, []).append(decode(data, MediaOutcome))  # type: ignore[arg-type]
        self._published.set()

    async def declare(self, queue: WorkQueue) -> None:
        self.declared.append(queue)

    def put(self, job: MediaJob) -> None:
        self._jobs.put_nowait(Job(subject=names.media_requested(job.job_id), data=encode(job), attempt_number=1))

    async def answer(self, job_id: str, seconds: float = 20.0) -> MediaPrepared | MediaFailed:
        """The terminal outcome of a job."""
        async with asyncio.timeout(seconds):
            count = 0
            while True:
                count += 1
                outcome = await self.published(job_id, count)
                if not isinstance(outcome, MediaProgress):
                    return outcome

    async def published(self, job_id: str, count: int) -> MediaOutcome:
        """The ``count``-th message about a job, once it is there."""
        outcomes = self.outcomes.setdefault(names.media_outcome(job_id), [])
        while len(outcomes) < count:
            self._published.clear()
            await self._published.wait()
        return outcomes[count - 1]

    def progress(self, job_id: str) -> list[MediaProgress]:
        return [one for one in self.outcomes[names.media_outcome(job_id)] if isinstance(one, MediaProgress)]

    @asynccontextmanager
    async def consume(
        self, queue: WorkQueue, handler: JobHandler, *, in_flight: int, on_parked: ParkedHandler | None = None
    ) -> AsyncIterator[None]:
        readers = [asyncio.create_task(self._read(queue, handler, on_parked)) for _ in range(in_flight)]
        yield
        await self._jobs.join()
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)

    async def _read(self, queue: WorkQueue, handler: JobHandler, on_parked: ParkedHandler | None) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await handler(job)
            except MoontideError as error:
                await self._again_or_park(queue, job, error, on_parked)
            finally:
                self._jobs.task_done()

    async def _again_or_park(
        self, queue: WorkQueue, job: Job, error: MoontideError, on_parked: ParkedHandler | None
    ) -> None:
        if error.retryable and job.attempt_number < queue.max_attempts:
            self._jobs.put_nowait(Job(subject=job.subject, data=job.data, attempt_number=job.attempt_number + 1))
            return
        self.parked.append((job, error.code))
        if on_parked is not None:
            await on_parked(job, error.code)
