"""What others may see of a request: one accepted event, and exactly one terminal record (design principle 8).

Input: ids and an outcome. Output: CloudEvents on ``MOONTIDE_EVENTS``. It must not know what a request is about.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Literal

from schemas import codec, names
from schemas.events import CloudEvent, EventType, RequestData
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError

Outcome = Literal["finished", "failed", "cancelled"]

_TYPES: dict[str, EventType] = {
    "accepted": "dev.moontide.request.accepted",
    "finished": "dev.moontide.request.finished",
    "failed": "dev.moontide.request.failed",
    "cancelled": "dev.moontide.request.cancelled",
}

log = logging.getLogger(__name__)

TERMINAL_ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.25
"""Doubled between attempts: about eight seconds in all."""


class RequestEvents:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    async def declare(self, max_bytes: int, max_age_seconds: float) -> None:
        await self._bus.declare_log(
            names.STREAM_EVENTS, (names.EVENTS_ALL,), max_bytes=max_bytes, max_age_seconds=max_age_seconds
        )

    async def accept(self, data: RequestData) -> None:
        """Before dispatch. Raises Unavailable: what cannot be recorded is not begun."""
        event = self._event("accepted", data)
        await self._bus.append(names.event_accepted(data.request_id), codec.encode_json(event), message_id=event.id)

    def end(self, outcome: Outcome, data: RequestData) -> None:
        """Write the terminal record, in a task of its own: it is written also when the request is cancelled."""
        task = asyncio.create_task(self._write_terminal(outcome, data), name="terminal record")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Wait for the records that are still being written: part of a drain."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _write_terminal(self, outcome: Outcome, data: RequestData) -> None:
        event = self._event(outcome, data)
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, TERMINAL_ATTEMPTS + 1):
            try:
                await self._bus.append(
                    names.event_terminal(data.request_id),
                    codec.encode_json(event),
                    message_id=event.id,
                    expected_last_sequence=0,
                )
                return
            except MoontideError as error:
                log.warning("terminal record not written", extra={"code": error.code, "attempt": attempt})
            if attempt < TERMINAL_ATTEMPTS:
                await self._clock.sleep(pause)
                pause *= 2
        log.error("terminal record left to the sweeper", extra={"request_id": data.request_id})

    def _event(self, outcome: Literal["accepted"] | Outcome, data: RequestData) -> CloudEvent:
        return CloudEvent(
            id=f"{data.request_id}.{outcome}",
            source=f"/moontide/gateway/{data.holder}",
            type=_TYPES[outcome],
            subject=data.request_id,
            time=datetime.fromtimestamp(self._clock.unix_seconds(), UTC).isoformat().replace("+00:00", "Z"),
            data=data,
        )
