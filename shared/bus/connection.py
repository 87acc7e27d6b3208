"""The bus of one process: ``connect`` gives a ``NatsBus``, the real implementation of ``interface.Bus``.

In: ``BusConfig``. Out: an object whose parts live beside this file: link, admission, work queue, log, stored.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from schemas import names
from shared.bus import admission, log, stored, streams, work_queue
from shared.bus.config import BusConfig
from shared.bus.failures import translated
from shared.bus.interface import (
    JobHandler,
    ParkedHandler,
    RequestHandler,
    ServiceInfo,
    StoredMessage,
    Subscription,
    WorkQueue,
)
from shared.bus.link import Link

__all__ = ["BusConfig", "NatsBus", "connect"]


@asynccontextmanager
async def connect(config: BusConfig, service_name: str) -> AsyncIterator["NatsBus"]:
    """A connected bus. Raises Unauthorized when refused, Unavailable when no server answers in time."""
    link = Link(f"{names.token(service_name)}-{secrets.token_hex(4)}")
    await link.open(config)
    try:
        yield NatsBus(link)
    finally:
        await link.close()


class NatsBus:
    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def instance(self) -> str:
        return self._link.instance

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        self._link.set_outbox(drain)

    async def publish(self, subject: str, data: bytes) -> None:
        await self._link.publish(subject, data)

    async def flush(self, timeout_seconds: float = 5.0) -> None:
        await self._link.send_outbox()
        await self._link.barrier(timeout_seconds)

    async def subscribe(
        self, subject: str, *, queue: str = "", max_pending: int = 4096, confirmed: bool = True
    ) -> Subscription:
        return await self._link.subscribe(subject, queue=queue, max_pending=max_pending, confirmed=confirmed)

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        return admission.answer(await self._link.request(subject, data, timeout_seconds))

    def offer(
        self, name: str, endpoints: Mapping[str, RequestHandler], *, version: str, metadata: Mapping[str, str]
    ) -> AbstractAsyncContextManager[str]:
        return admission.offered(self._link, name, endpoints, version, metadata)

    async def discover(self, name: str, timeout_seconds: float = 0.3) -> list[ServiceInfo]:
        return await admission.discover(self._link, name, timeout_seconds)

    async def declare(self, queue: WorkQueue) -> None:
        await streams.declare_queue(self._link, queue)

    async def enqueue(self, subject: str, data: bytes, *, message_id: str) -> None:
        with translated():
            await streams.store(self._link, subject, data, message_id)

    def consume(
        self, queue: WorkQueue, handler: JobHandler, *, in_flight: int, on_parked: ParkedHandler | None = None
    ) -> AbstractAsyncContextManager[None]:
        return work_queue.consumed(self._link, queue, handler, in_flight, on_parked)

    async def declare_log(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_age_seconds: float, volatile: bool = False
    ) -> None:
        await streams.declare_log(self._link, stream, subjects, max_bytes, max_age_seconds, volatile)

    async def append(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None = None
    ) -> bool:
        sequence = await self.append_at(
            subject, data, message_id=message_id, expected_last_sequence=expected_last_sequence
        )
        return sequence is not None

    def follow_log(
        self, stream: str, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], *, batch: int = 256
    ) -> AbstractAsyncContextManager[None]:
        return log.followed(self._link, stream, durable, handler, batch)

    async def declare_journal(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_per_subject: int | None = None
    ) -> None:
        await streams.declare_journal(self._link, stream, subjects, max_bytes, max_per_subject)

    async def declare_latest(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, keep_seconds: float
    ) -> None:
        await streams.declare_latest(self._link, stream, subjects, max_bytes, keep_seconds)

    async def append_at(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None
    ) -> int | None:
        return await log.append(self._link, subject, data, message_id, expected_last_sequence)

    async def read_log(
        self, stream: str, subject: str, *, after_sequence: int = 0, limit: int = 256
    ) -> list[StoredMessage]:
        return await stored.read(self._link, stream, subject, after_sequence, limit)

    async def read_last(self, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
        return await stored.read_last(self._link, stream, subjects)

    async def last_of(self, stream: str, subject: str) -> StoredMessage | None:
        with translated():
            return await streams.persistently(lambda: stored.last(self._link.streams, stream, subject))

    async def subjects_of(self, stream: str, pattern: str) -> dict[str, int]:
        return await stored.subjects(self._link, stream, pattern)

    async def first_sequence(self, stream: str) -> int:
        with translated():
            return (await self._link.streams.stream_info(stream)).state.first_seq

    async def remove(self, stream: str, sequence: int) -> bool:
        return await stored.remove(self._link, stream, sequence)

    async def purge(self, stream: str, subject: str) -> None:
        with translated():
            await self._link.streams.purge_stream(stream, subject=subject)
