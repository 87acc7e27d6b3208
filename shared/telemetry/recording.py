"""Telemetry that keeps its messages in a list, for tests and for code that runs without a bus.

Input: spans. Output: ``RecordingTelemetry.messages``. It must not be used by a service.
"""

from collections.abc import Callable, Iterable
from typing import cast

from schemas import codec
from schemas.telemetry import SpanEnded, SpanMessage, SpanStarted
from shared.telemetry.tracing import Telemetry


class RecordingBus:
    """Keeps what is published, in the order in which the real bus would send it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self._drain: Callable[[], Iterable[tuple[str, bytes]]] = tuple

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        self._drain = drain

    async def publish(self, subject: str, data: bytes) -> None:
        self.published += self._drain()
        self.published.append((subject, data))

    async def flush(self, timeout_seconds: float = 5.0) -> None:
        self.published += self._drain()


class RecordingTelemetry(Telemetry):
    def __init__(self, service: str = "test", instance: str = "test-1") -> None:
        self.bus = RecordingBus()
        super().__init__(service, instance, self.bus)

    @property
    def messages(self) -> list[SpanMessage]:
        """Everything so far: starts and ends in order, and beats when ``running()`` was entered."""
        self.bus.published += self.drain()
        return [cast(SpanMessage, codec.decode(data, SpanMessage)) for _, data in self.bus.published]  # type: ignore[arg-type]

    def started(self, name: str) -> list[SpanStarted]:
        return [message for message in self.messages if isinstance(message, SpanStarted) and message.name == name]

    def ended(self, name: str) -> list[SpanEnded]:
        return [message for message in self.messages if isinstance(message, SpanEnded) and message.name == name]
