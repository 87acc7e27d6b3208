"""What people watch while a run works: entries as they are appended, pieces of the answer in flight, tools' progress.

Input: what happens to a run. Output: core messages on ``names.run_live``, pieces joined to one message per
``FLUSH_SECONDS``. Lossy and bounded: the ledger has the whole later. It must not know who watches.
"""

import asyncio
import logging
from contextlib import suppress

from schemas import names
from schemas.chat import ChatDelta
from schemas.codec import encode
from schemas.runs import NumberedEntry, RunDelta
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError

log = logging.getLogger("coordinator")

FLUSH_SECONDS = 0.05
MAX_PENDING_CHARACTERS = 64 * 1024
"""Kept between two flushes; what is beyond is not shown live."""
MAX_PROGRESS_CHARACTERS = 1000


class Live:
    def __init__(self, bus: Bus, clock: Clock, run_id: str) -> None:
        self._bus = bus
        self._clock = clock
        self._run_id = run_id
        self._subject = names.run_live(run_id)
        self._place = (0, 0)
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._characters = 0
        self._flushing: asyncio.Task[None] | None = None

    async def entry(self, entry: NumberedEntry) -> None:
        """After what belongs before it."""
        await self._flush()
        await self._publish(entry)

    def delta(self, step: int, attempt: int, delta: ChatDelta) -> None:
        size = len(delta.reasoning) + len(delta.content)
        if size == 0 or self._characters + size > MAX_PENDING_CHARACTERS:
            return
        self._place = (step, attempt)
        self._reasoning.append(delta.reasoning)
        self._content.append(delta.content)
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
        if self._characters == 0:
            return
        reasoning, content = "".join(self._reasoning), "".join(self._content)
        step, attempt = self._place
        self._reasoning, self._content, self._characters = [], [], 0
        await self._publish(
            RunDelta(run_id=self._run_id, step=step, attempt=attempt, reasoning=reasoning, content=content)
        )

    async def _publish(self, message: NumberedEntry | RunDelta) -> None:
        try:
            await self._bus.publish(self._subject, encode(message))
        except MoontideError as error:
            log.info("nobody can watch", extra={"run_id": self._run_id, "code": error.code})
