"""What others may see of an accepted id: one accepted event, and exactly one terminal record (design principle 8).

Input: ids and outcomes. Output: CloudEvents on ``MOONTIDE_EVENTS``, and an answer to whoever asks which ids are still
held here. It must not know what a request is about.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import msgspec

from schemas import codec, names
from schemas.events import CloudEvent, EventType, HolderAnswered, HolderQuery, RequestData
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import BadInput, MoontideError

Outcome = Literal["finished", "failed", "cancelled"]

_TYPES: dict[str, EventType] = {
    "accepted": "dev.moontide.request.accepted",
    "finished": "dev.moontide.request.finished",
    "failed": "dev.moontide.request.failed",
    "cancelled": "dev.moontide.request.cancelled",
}

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024 * 1024
MAX_AGE_SECONDS = 7 * 24 * 3600.0
"""Of the log, where nothing else is wanted."""
TERMINAL_ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.25
"""Doubled between attempts: about eight seconds in all."""


class RequestEvents:
    """Of one process; ``service`` names it in the events."""

    def __init__(self, bus: Bus, clock: Clock, service: str) -> None:
        self._bus = bus
        self._clock = clock
        self._service = service
        self._held: set[str] = set()
        self._unsure: set[str] = set()
        """Of those held: whose accepted event may not be there."""
        self._writing: set[asyncio.Task[None]] = set()

    async def declare(self, max_bytes: int, max_age_seconds: float) -> None:
        await self._bus.declare_log(
            names.STREAM_EVENTS, (names.EVENTS_ALL,), max_bytes=max_bytes, max_age_seconds=max_age_seconds
        )

    async def declare_if_missing(self) -> None:
        """For whoever does not decide how much is kept."""
        try:
            await self._bus.first_sequence(names.STREAM_EVENTS)
        except MoontideError:
            await self.declare(MAX_BYTES, MAX_AGE_SECONDS)

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Tells whoever asks which accepted ids have not ended here, while entered."""
        endpoints = {names.holder(self._bus.instance): self._answer}
        async with self._bus.offer(names.SERVICE_HOLDER, endpoints, version="0.1.0", metadata={}):
            yield

    async def accept(self, data: RequestData) -> None:
        """Before dispatch. Raises Unavailable: what cannot be recorded is not begun. ``end`` follows either way: then
        the event may be there, and is made sure of before the terminal record."""
        self._held.add(data.request_id)
        self._unsure.add(data.request_id)
        await self.record_accepted(data)
        self._unsure.discard(data.request_id)

    async def record_accepted(self, data: RequestData) -> None:
        """Without holding it: for ids whose state is elsewhere. There is one accepted event, however often this is
        called. Raises Unavailable."""
        event = self._event("accepted", data)
        await self._bus.append(
            names.event_accepted(data.request_id),
            codec.encode_json(event),
            message_id=event.id,
            expected_last_sequence=0,
        )

    def end(self, outcome: Outcome, data: RequestData) -> None:
        """Write the terminal record, in a task of its own: it is written also when the request is cancelled."""
        task = asyncio.create_task(self._write_terminal(outcome, data), name="terminal record")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def record_terminal(self, outcome: Outcome, data: RequestData) -> bool:
        """Once. True: it is this one; False: there was one already. Raises Unavailable when neither is known."""
        event = self._event(outcome, data)
        return await self._bus.append(
            names.event_terminal(data.request_id),
            codec.encode_json(event),
            message_id=event.id,
            expected_last_sequence=0,
        )

    async def settle(self) -> None:
        """Wait for the records that are still being written: part of a drain."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write_terminal(self, outcome: Outcome, data: RequestData) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            for attempt in range(1, TERMINAL_ATTEMPTS + 1):
                try:
                    if data.request_id in self._unsure:
                        await self.record_accepted(data)
                    await self.record_terminal(outcome, data)
                    return
                except MoontideError as error:
                    log.warning("terminal record not written", extra={"code": error.code, "attempt": attempt})
                if attempt < TERMINAL_ATTEMPTS:
                    await self._clock.sleep(pause)
                    pause *= 2
            log.error("terminal record left to the sweeper", extra={"request_id": data.request_id})
        finally:
            self._held.discard(data.request_id)
            self._unsure.discard(data.request_id)

    async def _answer(self, data: bytes) -> bytes:
        try:
            query = codec.decode(data, HolderQuery)
        except msgspec.MsgspecError:
            return codec.encode(BadInput("holder.query", "the message is not a holder query").to_failure())
        held = tuple(request_id for request_id in query.request_ids if request_id in self._held)
        return codec.encode(HolderAnswered(held=held))

    def _event(self, outcome: Literal["accepted"] | Outcome, data: RequestData) -> CloudEvent:
        return CloudEvent(
            id=f"{data.request_id}.{outcome}",
            source=f"/moontide/{self._service}/{data.holder}",
            type=_TYPES[outcome],
            subject=data.request_id,
            time=datetime.fromtimestamp(self._clock.unix_seconds(), UTC).isoformat().replace("+00:00", "Z"),
            data=data,
        )
