"""Logs of the fake bus: appending to streams and reading what they keep.

In: the streams of a fake broker. Out: the part of ``interface.Bus`` that is about logs. Appends may be lost as the
broker's seed says; nothing else goes wrong here.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.bus.fake_streams import Stream, matches
from shared.bus.interface import StoredMessage
from shared.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from shared.bus.fake import FakeBroker


class FakeLogs:
    """A participant's view of the broker's streams."""

    def __init__(self, broker: "FakeBroker") -> None:
        self._broker = broker
        self._killed = False

    def _send_outbox(self) -> None:
        raise NotImplementedError

    async def declare_log(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_age_seconds: float, volatile: bool = False
    ) -> None:
        known = self._broker.streams.setdefault(stream, Stream(subjects))
        known.subjects, known.max_bytes = subjects, max_bytes

    async def declare_journal(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_per_subject: int | None = None
    ) -> None:
        known = self._broker.streams.setdefault(stream, Stream(subjects))
        known.subjects, known.max_bytes, known.keeps_all = subjects, max_bytes, True
        known.max_per_subject = max_per_subject

    async def declare_latest(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, keep_seconds: float
    ) -> None:
        known = self._broker.streams.setdefault(stream, Stream(subjects))
        known.subjects, known.max_bytes, known.keep_seconds = subjects, max_bytes, keep_seconds

    async def append(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None = None
    ) -> bool:
        sequence = await self.append_at(
            subject, data, message_id=message_id, expected_last_sequence=expected_last_sequence
        )
        return sequence is not None

    async def append_at(
        self, subject: str, data: bytes, *, message_id: str, expected_last_sequence: int | None
    ) -> int | None:
        self._send_outbox()
        if self._killed or self._broker.loses_append():
            raise Unavailable("bus.timeout", "nobody answered in time")
        stream = self._broker.stream_of(subject)
        last = stream.last(subject)
        if expected_last_sequence is not None and (last.sequence if last else 0) != expected_last_sequence:
            return last.sequence if last is not None and last.message_id == message_id else None
        self._broker.store(subject, data, message_id)
        await asyncio.sleep(0)
        if self._broker.loses_append():
            raise Unavailable("bus.timeout", "nobody answered in time")
        return stream.sequence_of(message_id)

    async def read_log(
        self, stream: str, subject: str, *, after_sequence: int = 0, limit: int = 256
    ) -> list[StoredMessage]:
        kept = [stored for stored in self._read(stream).kept() if matches(subject, stored.subject)]
        return [stored.message() for stored in kept if stored.sequence > after_sequence][:limit]

    async def read_last(self, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
        found = [self._read(stream).last(subject) for subject in subjects]
        return [stored.message() for stored in found if stored is not None]

    async def last_of(self, stream: str, subject: str) -> StoredMessage | None:
        last = self._stream(stream).last(subject)
        return last.message() if last is not None else None

    async def subjects_of(self, stream: str, pattern: str) -> dict[str, int]:
        return dict(Counter(m.subject for m in self._stream(stream).kept() if matches(pattern, m.subject)))

    async def first_sequence(self, stream: str) -> int:
        known = self._stream(stream)
        return next((stored.sequence for stored in known.kept()), known.last_sequence + 1)

    async def remove(self, stream: str, sequence: int) -> bool:
        if self._stream(stream).keeps_all:
            raise Unavailable("bus.stream_failed", "the stream could not do this")
        return self._stream(stream).remove(sequence)

    async def purge(self, stream: str, subject: str) -> None:
        self._stream(stream).purge(subject)

    def _stream(self, name: str) -> Stream:
        if self._killed:
            raise Unavailable("bus.timeout", "nobody answered in time")
        if name not in self._broker.streams:
            raise NotFound("bus.not_found", "the stream or its reader does not exist")
        return self._broker.streams[name]

    def _read(self, name: str) -> Stream:
        """As a read finds it: who answers for a stream that is not there is nobody."""
        try:
            return self._stream(name)
        except NotFound as error:
            raise Unavailable("bus.no_stream", "no stream stores this subject") from error
