"""What people watch while a run works: entries as they are appended, pieces of the answer in flight, tools' progress.

Input: what happens to a run. Output: core messages on ``names.run_live``, pieces joined to one message per
``FLUSH_SECONDS``. Lossy and bounded: the ledger has the whole later. It must not know who watches.
"""

import asyncio
import logging
from contextlib import suppress

from schemas import names
from schemas.codec import encode
from schemas.runs import NumberedEntry, RunDelta
from services.coordinator.model_call import Piece
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError

log = logging.getLogger("coordinator")

FLUSH_SECONDS = 0.05
MAX_PENDING_CHARACTERS = 64 * 1024
"""Kept between two flushes; what comes beyond it before the next one is not shown live."""
MAX_PROGRESS_CHARACTERS = 1000


class Live:
    def __init__(self, bus: Bus, clock: Clock, run_id: str) -> None:
        self._bus = bus
        self._clock = clock
        self._run_id = run_id
        self._subject = names.run_live(run_id)
        self._place = (0, 0)
        self._pieces: list[Piece] = []
        self._characters = 0
        self._flushing: asyncio.Task[None] | None = None

    async def entry(self, entry: NumberedEntry) -> None:
        """After what belongs before it."""
        await self._flush()
        await self._publish(entry)

    def piece(self, step: int, attempt: int, piece: Piece) -> None:
        """Of the answer in flight. Pieces of one message are without gaps."""
        size = len(piece.delta.reasoning) + len(piece.delta.content)
        if size == 0 or self._characters >= MAX_PENDING_CHARACTERS:
            return
        self._place = (step, attempt)
        self._pieces.append(piece)
        self._characters += size
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_soon(), name=f"live-{self._run_id}")

    async def progress(self, step: int, call_id: str, text: str) -> None:
        shown = text[:MAX_PROGRESS_CHARACTERS]
        await self._publish(RunDelta(run_id=self._run_id, step=step, call_id=call_id, progress=shown))

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing

    async def _flush_soon(self) -> None:
        await self._clock.sleep(FLUSH_SECONDS)
        await self._flush()

    async def _flush(self) -> None:
        if not self._pieces:
            return
        pieces, (step, attempt) = self._pieces, self._place
        self._pieces, self._characters = [], 0
        shown = RunDelta(
            run_id=self._run_id,
            step=step,
            attempt=attempt,
            reasoning="".join(piece.delta.reasoning for piece in pieces)[:MAX_PENDING_CHARACTERS],
            content="".join(piece.delta.content for piece in pieces)[:MAX_PENDING_CHARACTERS],
            reasoning_start=pieces[0].reasoning_start,
            content_start=pieces[0].content_start,
        )
        await self._publish(shown)

    async def _publish(self, message: NumberedEntry | RunDelta) -> None:
        try:
            await self._bus.publish(self._subject, encode(message))
        except MoontideError as error:
            log.info("nobody can watch", extra={"run_id": self._run_id, "code": error.code})
