"""Streams of the fake bus: stored messages, a work queue's reader and a log's reader.

In: messages and handlers. Out: deliveries as JetStream makes them: at least once, settled like on the real bus.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from schemas import names
from schemas.codec import encode
from schemas.parked import ParkedJob
from shared.bus import settlement
from shared.bus.interface import Job, JobHandler, ParkedHandler, StoredMessage, WorkQueue
from shared.errors import Busy, MoontideError

POLL_SECONDS = 0.01


def matches(pattern: str, subject: str) -> bool:
    """NATS subject matching: ``*`` is one token, ``>`` at the end is one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(given) > position
        if position >= len(given) or token not in ("*", given[position]):
            return False
    return len(wanted) == len(given)


@dataclass
class Stored:
    sequence: int
    subject: str
    data: bytes
    message_id: str
    time_unix_seconds: float = 0.0
    stored_at: float = 0.0
    """On the loop's clock, by which things expire here."""
    deliveries: int = 0
    ready_at: float = 0.0
    taken: bool = False

    def message(self) -> StoredMessage:
        return StoredMessage(
            subject=self.subject,
            sequence=self.sequence,
            data=self.data,
            message_id=self.message_id,
            time_unix_seconds=self.time_unix_seconds,
        )


@dataclass
class Stream:
    subjects: tuple[str, ...]
    max_messages: int | None = None
    max_bytes: int | None = None
    messages: list[Stored] = field(default_factory=list)
    last_sequence: int = 0
    keeps_all: bool = False
    max_per_subject: int | None = None
    keep_seconds: float | None = None
    """Set: only the last message of each subject is kept, and only so long."""
    seen: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def binds(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.subjects)

    def add(self, subject: str, data: bytes, message_id: str) -> None:
        if message_id in self.seen:
            return
        if self._is_full(subject, data):
            raise Busy("bus.full", "the queue is full", retry_after_seconds=1.0)
        if self.keep_seconds is not None:
            self.purge(subject)
        self.last_sequence += 1
        if message_id:
            self.seen[message_id] = self.last_sequence
        now = asyncio.get_running_loop().time()
        self.messages.append(Stored(self.last_sequence, subject, data, message_id, time.time(), now))
        while self.max_bytes is not None and self._size_bytes() > self.max_bytes:
            self.messages.pop(0)

    def _is_full(self, subject: str, data: bytes) -> bool:
        if self.max_per_subject is not None:
            count = sum(stored.subject == subject for stored in self.messages)
            if count >= self.max_per_subject:
                return True
        if self.max_messages is not None and len(self.messages) >= self.max_messages:
            return True
        return self.keeps_all and self.max_bytes is not None and self._size_bytes() + len(data) > self.max_bytes

    def _size_bytes(self) -> int:
        return sum(len(stored.data) for stored in self.messages)

    def kept(self) -> list[Stored]:
        """What is there now."""
        if self.keep_seconds is not None:
            oldest = asyncio.get_running_loop().time() - self.keep_seconds
            self.messages = [stored for stored in self.messages if stored.stored_at > oldest]
        return self.messages

    def last(self, subject: str) -> Stored | None:
        return next((stored for stored in reversed(self.kept()) if stored.subject == subject), None)

    def sequence_of(self, message_id: str) -> int:
        """Where it is, or was when it was given before."""
        return self.seen[message_id]

    def remove(self, sequence: int) -> bool:
        kept = [stored for stored in self.kept() if stored.sequence != sequence]
        removed = len(kept) < len(self.messages)
        self.messages = kept
        return removed

    def purge(self, subject: str) -> None:
        self.messages = [stored for stored in self.messages if stored.subject != subject]


async def follow(
    streams: dict[str, Stream],
    stream: str,
    durable: str,
    handler: Callable[[list[bytes]], Awaitable[None]],
    batch: int,
    stopping: asyncio.Event,
) -> None:
    while not stopping.is_set():
        if known := streams.get(stream):
            await _hand_over(known, durable, handler, batch)
        await asyncio.sleep(POLL_SECONDS)


async def _hand_over(
    stream: Stream, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], batch: int
) -> None:
    position = stream.positions.get(durable, 0)
    messages = [stored for stored in stream.messages if stored.sequence > position][:batch]
    if not messages:
        return
    with suppress(Exception):  # the same batch comes again
        await handler([stored.data for stored in messages])
        stream.positions[durable] = messages[-1].sequence


class JobReader:
    """One slot of a work queue's reader."""

    def __init__(
        self,
        streams: dict[str, Stream],
        publish: Callable[[str, bytes], None],
        redeliver: Callable[[], bool],
        queue: WorkQueue,
        handler: JobHandler,
        on_parked: ParkedHandler | None,
    ) -> None:
        self._streams = streams
        self._publish = publish
        self._redeliver = redeliver
        self._queue = queue
        self._handler = handler
        self._on_parked = on_parked

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            stored = self._take()
            if stored is None:
                await asyncio.sleep(POLL_SECONDS)
            else:
                await self._settle(stored)

    def _take(self) -> Stored | None:
        now = asyncio.get_running_loop().time()
        for stored in self._streams[self._queue.stream].messages:
            if not stored.taken and stored.ready_at <= now:
                stored.taken = True
                stored.deliveries += 1
                return stored
        return None

    async def _settle(self, stored: Stored) -> None:
        job = Job(subject=stored.subject, data=stored.data, attempt_number=stored.deliveries)
        outcome = settlement.before(job.attempt_number, self._queue.max_attempts) or await self._handle(job)
        lost_ack = self._redeliver()
        if isinstance(outcome, settlement.Again) or (lost_ack and not isinstance(outcome, settlement.Parked)):
            delay = outcome.delay_seconds if isinstance(outcome, settlement.Again) else 0.0
            stored.ready_at = asyncio.get_running_loop().time() + delay
            stored.taken = False
            return
        if isinstance(outcome, settlement.Parked):
            await self._park(job, outcome.reason)
        self._streams[self._queue.stream].messages.remove(stored)

    async def _handle(self, job: Job) -> settlement.Settlement:
        try:
            await self._handler(job)
        except Exception as error:  # noqa: BLE001 - as on the real bus
            return settlement.after(error, job.attempt_number, self._queue.max_attempts)
        return settlement.Done()

    async def _park(self, job: Job, reason: str) -> None:
        if self._on_parked is not None:
            with suppress(MoontideError):
                await self._on_parked(job, reason)
        parked = ParkedJob(
            stream=self._queue.stream,
            durable=self._queue.durable,
            subject=job.subject,
            data=job.data,
            deliveries=job.attempt_number,
            reason=reason,
        )
        subject = names.parked(self._queue.stream, self._queue.durable, job.subject.rsplit(".", 1)[-1])
        self._publish(subject, encode(parked))
