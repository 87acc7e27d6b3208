"""Telemetry of one process: spans as messages on the bus, a beat every second, OTLP beside it when configured.

Input: spans opened by the code of a service. Output: ``SpanStarted``, ``SpanEnded`` and ``ProcessBeat`` on
``names.spans(service)``. It must not know what the spans are about, and never slows or fails the work inside them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from schemas import codec, names
from schemas.telemetry import AttributeValue, ProcessBeat
from shared.errors import MoontideError
from shared.telemetry.otlp import otlp_processor
from shared.telemetry.outbox import Outbox
from shared.telemetry.processor import MessageProcessor
from shared.telemetry.span import Span

FLUSH_SECONDS = 0.05
BEAT_SECONDS = 1.0
CLOSING_SECONDS = 2.0
LIMITS = SpanLimits(
    max_attributes=64, max_events=64, max_event_attributes=16, max_attribute_length=2048, max_span_attribute_length=2048
)

log = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client", "producer", "consumer"]


class SpanBus(Protocol):
    """The part of the bus that telemetry uses."""

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None: ...

    async def publish(self, subject: str, data: bytes) -> None: ...

    async def flush(self, timeout_seconds: float = 5.0) -> None: ...


class Telemetry:
    """See the package docstring. ``otlp_endpoint``: base URL of an OTLP/HTTP collector, or None."""

    def __init__(self, service: str, instance: str, bus: SpanBus, otlp_endpoint: str | None = None) -> None:
        self.service = service
        self.instance = instance
        self._bus = bus
        self._subject = names.spans(service)
        self._outbox = Outbox(self._subject)
        self._unreachable = False
        self._beat_unix_nanoseconds = 0
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": f"moontide-{service}", "service.instance.id": instance}),
            span_limits=LIMITS,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(MessageProcessor(service, instance, self._outbox.put))
        if otlp_endpoint:
            self._provider.add_span_processor(otlp_processor(otlp_endpoint))
        self._tracer = self._provider.get_tracer("moontide")

    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: Kind = "internal",
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Span:
        """A span around the ``with`` block that follows. ``parent``: a traceparent, ``""`` for a new root, None for
        the current span of this task (in another thread give it, since threads begin without a current span)."""
        return Span(self._tracer, name, parent=parent, kind=SpanKind[kind.upper()], attributes=attributes)

    def drain(self) -> list[tuple[str, bytes]]:
        """The messages that have to be published before anything else is, oldest first."""
        return self._outbox.drain()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Beats and flushes; on exit says that this process ends, after its last span."""
        self._bus.set_outbox(self.drain)
        await self._beat()
        task = asyncio.create_task(self._beat_and_flush(), name="telemetry")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._close()

    async def _beat_and_flush(self) -> None:
        beat_at = time.monotonic() + BEAT_SECONDS
        reported = 0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if time.monotonic() < beat_at:
                continue
            beat_at = time.monotonic() + BEAT_SECONDS
            await self._beat()
            if self._outbox.dropped > reported:
                log.warning("spans dropped", extra={"count": self._outbox.dropped - reported})
                reported = self._outbox.dropped

    async def flush(self) -> None:
        """Publish what waits, also when nothing else is published."""
        newest = self._outbox.take_newest()
        if newest is not None:
            await self._publish(*newest)

    async def _beat(self, *, ending: bool = False) -> None:
        # Never backwards, also when the wall clock is set back: a beat older than the last one is a redelivery.
        at = self._beat_unix_nanoseconds = max(time.time_ns(), self._beat_unix_nanoseconds + 1)
        beat = ProcessBeat(service=self.service, instance=self.instance, time_unix_nanoseconds=at, ending=ending)
        await self._publish(self._subject, codec.encode(beat))

    async def _publish(self, subject: str, data: bytes) -> None:
        try:
            await self._bus.publish(subject, data)
            self._unreachable = False
        except MoontideError as error:
            self._outbox.dropped += 1
            if not self._unreachable:
                log.warning("spans cannot be published", extra={"code": error.code})
            self._unreachable = True

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.flush()
                await self._beat(ending=True)
                await self._bus.flush(CLOSING_SECONDS)
        except (TimeoutError, MoontideError):
            log.warning("last spans may be lost")
        await asyncio.to_thread(self._provider.shutdown)
