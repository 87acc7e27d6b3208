"""What every service may ask of the bus. ``connection.NatsBus`` is the real one, ``fake.FakeBus`` the seeded fake;
the same tests run on both. nats-py is imported nowhere outside ``shared/bus``.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

RequestHandler = Callable[[bytes], Awaitable[bytes]]
"""Answers one request quickly: work goes to a task of its own, since one endpoint serves one call at a time."""


class WorkQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A JetStream work queue and its one durable reader."""

    stream: str
    subjects: tuple[str, ...]
    durable: str
    ack_wait_seconds: float = 5.0
    max_attempts: int = 5
    """Deliveries after which a job is parked before it is touched (kills and drains count as deliveries)."""
    max_jobs: int = 10_000
    max_age_seconds: float = 24 * 3600.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of a job. The consumer renews it while the handler runs; the handler never acks."""

    subject: str
    data: bytes
    attempt_number: int
    """1 on the first delivery."""


JobHandler = Callable[[Job], Awaitable[None]]
"""Return: done, ack. Raise a retryable MoontideError: again after its retry_after_seconds (or a back-off).
Raise another MoontideError, or anything else repeatedly: parked with the reason."""

ParkedHandler = Callable[[Job, str], Awaitable[None]]
"""Called with the reason before a job is parked, so that whoever waits is answered."""


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One discovered micro service instance."""

    name: str
    id: str
    version: str
    metadata: dict[str, str]


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a stream keeps it."""

    subject: str
    sequence: int
    """Its place in the stream: it grows, and has gaps within one subject."""
    data: bytes
    message_id: str = ""
    time_unix_seconds: float = 0.0
    """When the stream took it, by the broker's clock."""


class Subscription(Protocol):
    """Messages of one subject, in order. Bounded: on overflow the subscription ends with ``Unavailable``."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def next(self, timeout_seconds: float) -> bytes | None:
        """The next message, or None when none came in time."""
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    @property
    def instance(self) -> str:
        """Name of this connection, unique: ``<service>-<random>``."""
        ...

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        """``drain`` is called before every publish and request; what it returns is published first (spans)."""
        ...

    async def publish(self, subject: str, data: bytes) -> None:
        """Core NATS, at most once. Raises Unavailable when disconnected for longer than the buffer lasts."""
        ...

    async def flush(self, timeout_seconds: float = 5.0) -> None: ...

    async def subscribe(
        self, subject: str, *, queue: str = "", max_pending: int = 4096, confirmed: bool = True
    ) -> Subscription:
        """Registered at the server when this returns. Not ``confirmed``: it is before anything that this bus sends
        afterwards, which is all that a request needs whose answers come here, and saves two round trips."""
        ...

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        """Raises Unavailable(code ``bus.no_responder``) at once when nobody listens,
        Unavailable(code ``bus.timeout``) when nobody answered in time."""
        ...

    def offer(
        self, name: str, endpoints: Mapping[str, RequestHandler], *, version: str, metadata: Mapping[str, str]
    ) -> AbstractAsyncContextManager[str]:
        """A NATS micro service (endpoint subjects → handlers), with queue group ``q``; yields its instance id.
        ``metadata`` is read whenever somebody asks."""
        ...

    async def discover(self, name: str, timeout_seconds: float = 0.3) -> list[ServiceInfo]:
        """Every instance of a micro service that answers in time."""
        ...

    async def declare(self, queue: WorkQueue) -> None:
        """Create or update the stream and the durable."""
        ...

    async def enqueue(self, subject: str, data: bytes, *, message_id: str) -> None:
        """Durable when this returns. Raises Busy when the queue is full."""
        ...

    def consume(
        self, queue: WorkQueue, handler: JobHandler, *, in_flight: int, on_parked: ParkedHandler | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Pull jobs, at most ``in_flight`` at once, refilled one by one; on exit running jobs finish (drain)."""
        ...

    async def declare_log(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_age_seconds: float, volatile: bool = False
    ) -> None:
        """A bounded stream that keeps the newest messages. ``volatile``: the server need not wait for its disk, and
        may lose the last ones when the machine dies."""
        ...

    async def append(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None = None
    ) -> bool:
        """Append to the stream that binds ``subject``. With an expectation (of the subject's last sequence, 0 for
        none yet): False when another writer was first. After an unknown acknowledgement the tail is read."""
        ...

    def follow_log(
        self, stream: str, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], *, batch: int = 256
    ) -> AbstractAsyncContextManager[None]:
        """Every message of a log once the handler returned, in order, from where ``durable`` got to."""
        ...

    async def declare_journal(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_per_subject: int | None = None
    ) -> None:
        """A stream that keeps every message, on disk before it is acknowledged. Full, it refuses; no single message
        can be removed, only all of a subject."""
        ...

    async def declare_latest(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, keep_seconds: float
    ) -> None:
        """A stream that keeps the last message of each subject, and that for ``keep_seconds`` only. The server need
        not wait for its disk, and may lose the last ones when the machine dies."""
        ...

    async def append_at(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None
    ) -> int | None:
        """As ``append``, but says where: the sequence of what was appended, None when another writer was first.
        Unavailable means unknown: it may be there, or arrive yet."""
        ...

    async def read_log(
        self, stream: str, subject: str, *, after_sequence: int = 0, limit: int = 256
    ) -> list[StoredMessage]:
        """Up to ``limit`` (of at most 1,000) messages of a subject (or pattern) behind a sequence, oldest first, some
        megabytes at most: none when there are no more. In a cluster a replica may answer that lags behind."""
        ...

    async def read_last(self, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
        """The last message of each subject that has one. May lag as ``read_log``."""
        ...

    async def last_of(self, stream: str, subject: str) -> StoredMessage | None:
        """The last message of one subject as the stream's leader has it: never out of date."""
        ...

    async def subjects_of(self, stream: str, pattern: str) -> dict[str, int]:
        """Every subject with messages, and how many it has."""
        ...

    async def first_sequence(self, stream: str) -> int:
        """Of the oldest message that is kept: above 1 when older ones are gone."""
        ...

    async def remove(self, stream: str, sequence: int) -> bool:
        """Remove one message; False when it is not there any more."""
        ...

    async def purge(self, stream: str, subject: str) -> None:
        """Remove every message of a subject."""
        ...
