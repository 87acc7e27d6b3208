"""Encoded span messages on their way to the bus: first in, first out, bounded, filled from any thread.

Input: messages. Output: (subject, bytes) pairs. It must not know who publishes them; it never waits.
"""

from collections import deque

import msgspec

from schemas import codec
from schemas.telemetry import SpanEnded, SpanMessage

MAX_MESSAGES = 4096
MAX_MESSAGE_BYTES = 256 * 1024


class Outbox:
    """What does not fit is counted in ``dropped``: spans are worth less than the work they describe."""

    def __init__(self, subject: str, max_messages: int = MAX_MESSAGES) -> None:
        self._subject = subject
        self._max_messages = max_messages
        self._messages: deque[bytes] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: SpanMessage) -> None:
        if len(self._messages) >= self._max_messages:
            self.dropped += 1
            return
        data = codec.encode(message)
        if len(data) > MAX_MESSAGE_BYTES and isinstance(message, SpanEnded):
            data = codec.encode(msgspec.structs.replace(message, events=()))
        self._messages.append(data)

    def drain(self) -> list[tuple[str, bytes]]:
        """Everything, oldest first. Safe while other threads put."""
        return [(self._subject, self._messages.popleft()) for _ in range(len(self._messages))]

    def take_newest(self) -> tuple[str, bytes] | None:
        """One message to publish by itself: the bus drains the older ones before it, so the order is kept."""
        try:
            return self._subject, self._messages.pop()
        except IndexError:
            return None
