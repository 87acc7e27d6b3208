"""A seeded in-memory bus with the faults that a real one may have, for tests of everything above the bus.

In: a seed and how often core messages are duplicated, delayed or dropped, and stored ones delivered again. Out: a
``Bus`` per participant. The contract tests run on it (without faults) and on a real server.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field

from schemas import names
from shared.bus.fake_logs import FakeLogs
from shared.bus.fake_streams import JobReader, Stream, follow, matches
from shared.bus.interface import (
    JobHandler,
    ParkedHandler,
    RequestHandler,
    ServiceInfo,
    Subscription,
    WorkQueue,
)
from shared.bus.mailbox import Mailbox
from shared.errors import Busy, Unavailable

MAX_DELAY_SECONDS = 0.05
DRAIN_SECONDS = 2.0


@dataclass(eq=False)
class _Listener:
    pattern: str
    queue: str
    mailbox: Mailbox


@dataclass(eq=False)
class _Endpoint:
    subject: str
    handler: RequestHandler
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class FakeBroker:
    """What is between the participants. ``duplicate``, ``delay`` and ``drop`` are probabilities per delivery,
    ``lose_appends`` that an append, or its acknowledgement, is lost."""

    def __init__(
        self, seed: int, *, duplicate: float = 0.0, delay: float = 0.0, drop: float = 0.0, lose_appends: float = 0.0
    ) -> None:
        self.rng = random.Random(seed)
        self.duplicate = duplicate
        self.delay = delay
        self.drop = drop
        self.lose_appends = lose_appends
        self.listeners: list[_Listener] = []
        self.endpoints: list[_Endpoint] = []
        self.services: list[Callable[[], ServiceInfo]] = []
        self.streams: dict[str, Stream] = {}
        self._names = 0

    def bus(self, name: str) -> "FakeBus":
        return FakeBus(self, f"{name}-{self.unique()}")

    def unique(self) -> str:
        self._names += 1
        return f"{self._names:04d}"

    def publish(self, subject: str, data: bytes) -> None:
        for stream in self.streams.values():
            if stream.binds(subject):
                with suppress(Busy):  # nobody waits for an acknowledgement
                    stream.add(subject, data, "")
        self._tell(subject, data)

    def store(self, subject: str, data: bytes, message_id: str) -> None:
        self.stream_of(subject).add(subject, data, message_id)
        self._tell(subject, data)

    def _tell(self, subject: str, data: bytes) -> None:
        for listener in self._receivers(subject):
            for _ in range(self.copies()):
                self._deliver(listener.mailbox, data)

    def _receivers(self, subject: str) -> list[_Listener]:
        groups: dict[str, list[_Listener]] = {}
        receivers = []
        for listener in self.listeners:
            if not matches(listener.pattern, subject):
                continue
            if listener.queue:
                groups.setdefault(listener.queue, []).append(listener)
            else:
                receivers.append(listener)
        return receivers + [self.rng.choice(group) for group in groups.values()]

    def _deliver(self, mailbox: Mailbox, data: bytes) -> None:
        seconds = self.delay_seconds()
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, mailbox.put, data)
        else:
            mailbox.put(data)

    def copies(self) -> int:
        """How often a message arrives."""
        if self.rng.random() < self.drop:
            return 0
        return 2 if self.rng.random() < self.duplicate else 1

    def delay_seconds(self) -> float:
        return self.rng.uniform(0.0, MAX_DELAY_SECONDS) if self.rng.random() < self.delay else 0.0

    def is_redelivered(self) -> bool:
        """Whether a job comes again although it was done: its acknowledgement was lost."""
        return self.rng.random() < self.duplicate

    def loses_append(self) -> bool:
        return self.lose_appends > 0 and self.rng.random() < self.lose_appends

    def stream_of(self, subject: str) -> Stream:
        for stream in self.streams.values():
            if stream.binds(subject):
                return stream
        raise Unavailable("bus.no_stream", "no stream stores this subject")


class FakeBus(FakeLogs):
    """One participant. ``kill`` takes it away as a crash would."""

    def __init__(self, broker: FakeBroker, instance: str) -> None:
        super().__init__(broker)
        self._instance = instance
        self._outbox: Callable[[], Iterable[tuple[str, bytes]]] = tuple
        self._listeners: list[_Listener] = []
        self._endpoints: list[_Endpoint] = []

    @property
    def instance(self) -> str:
        return self._instance

    def kill(self) -> None:
        """From now on nothing that it sends arrives, and nothing arrives here."""
        self._killed = True
        for listener in self._listeners:
            self._remove(listener)
        for endpoint in self._endpoints:
            if endpoint in self._broker.endpoints:
                self._broker.endpoints.remove(endpoint)

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        self._outbox = drain

    def _send_outbox(self) -> None:
        for subject, data in self._outbox():
            if not self._killed:
                self._broker.publish(subject, data)

    async def publish(self, subject: str, data: bytes) -> None:
        self._send_outbox()
        if not self._killed:
            self._broker.publish(subject, data)
        await asyncio.sleep(0)

    async def flush(self, timeout_seconds: float = 5.0) -> None:
        self._send_outbox()
        await asyncio.sleep(0)

    async def subscribe(
        self, subject: str, *, queue: str = "", max_pending: int = 4096, confirmed: bool = True
    ) -> Subscription:
        async def on_close() -> None:
            self._remove(listener)

        listener = _Listener(subject, queue, Mailbox(max_pending, on_close))
        self._listeners.append(listener)
        if not self._killed:
            self._broker.listeners.append(listener)
        await asyncio.sleep(0)
        return listener.mailbox

    def _remove(self, listener: _Listener) -> None:
        if listener in self._broker.listeners:
            self._broker.listeners.remove(listener)

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        self._send_outbox()
        endpoints = [endpoint for endpoint in self._broker.endpoints if endpoint.subject == subject]
        if self._killed:
            endpoints, timeout_seconds = [], 0.0
        elif not endpoints:
            raise Unavailable("bus.no_responder", "no service listens on this subject")
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if endpoints:
            endpoint = self._broker.rng.choice(endpoints)
            for _ in range(self._broker.copies()):
                asyncio.get_running_loop().create_task(self._ask(endpoint, data, reply))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await reply
        except TimeoutError as error:
            raise Unavailable("bus.timeout", "nobody answered in time") from error

    async def _ask(self, endpoint: _Endpoint, data: bytes, reply: "asyncio.Future[bytes]") -> None:
        """One copy of a request: on its way, in its turn, and its reply on the way back."""
        await asyncio.sleep(self._broker.delay_seconds())
        async with endpoint.turn:
            if endpoint not in self._broker.endpoints:
                return
            try:
                answer = await endpoint.handler(data)
            except Exception:  # noqa: BLE001 - as on the real bus, the caller only hears that it failed
                if not reply.done():
                    reply.set_exception(Unavailable("bus.handler_failed", "the service could not answer"))
                return
        await asyncio.sleep(self._broker.delay_seconds())
        if self._broker.copies() and not reply.done() and endpoint in self._broker.endpoints:
            reply.set_result(answer)

    @asynccontextmanager
    async def offer(
        self, name: str, endpoints: Mapping[str, RequestHandler], *, version: str, metadata: Mapping[str, str]
    ) -> AsyncIterator[str]:
        instance = self._broker.unique()

        def info() -> ServiceInfo:
            return ServiceInfo(name=name, id=instance, version=version, metadata=dict(metadata))

        mine = [_Endpoint(subject, handler) for subject, handler in endpoints.items()]
        self._endpoints += mine
        self._broker.endpoints += mine
        self._broker.services.append(info)
        try:
            yield instance
        finally:
            self._broker.services.remove(info)
            for endpoint in mine:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS), endpoint.turn:
                        pass  # what has arrived is answered
                if endpoint in self._broker.endpoints:
                    self._broker.endpoints.remove(endpoint)

    async def discover(self, name: str, timeout_seconds: float = 0.3) -> list[ServiceInfo]:
        infos = [info() for info in self._broker.services]
        return [info for info in infos if info.name == name]

    async def declare(self, queue: WorkQueue) -> None:
        stream = self._broker.streams.setdefault(queue.stream, Stream(queue.subjects))
        stream.subjects, stream.max_messages = queue.subjects, queue.max_jobs
        self._broker.streams.setdefault(names.STREAM_PARKED, Stream((names.PARKED_ALL,)))

    async def enqueue(self, subject: str, data: bytes, *, message_id: str) -> None:
        self._send_outbox()
        self._broker.store(subject, data, message_id)

    def consume(
        self, queue: WorkQueue, handler: JobHandler, *, in_flight: int, on_parked: ParkedHandler | None = None
    ) -> AbstractAsyncContextManager[None]:
        return self._consume(queue, handler, in_flight, on_parked)

    @asynccontextmanager
    async def _consume(
        self, queue: WorkQueue, handler: JobHandler, in_flight: int, on_parked: ParkedHandler | None
    ) -> AsyncIterator[None]:
        await self.declare(queue)
        stopping = asyncio.Event()
        reader = JobReader(
            self._broker.streams, self._broker.publish, self._broker.is_redelivered, queue, handler, on_parked
        )
        running = [asyncio.create_task(reader.run(stopping)) for _ in range(in_flight)]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*running)

    @asynccontextmanager
    async def follow_log(
        self, stream: str, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], *, batch: int = 256
    ) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        reading = follow(self._broker.streams, stream, durable, handler, batch, stopping)
        following = asyncio.create_task(reading)
        try:
            yield
        finally:
            stopping.set()
            await following
