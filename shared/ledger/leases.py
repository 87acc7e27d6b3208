"""Who takes care of a run: an owner beats, and a run without a beat for some seconds may be taken over.

In: beats. Out: who beat last. A lease is a hint, not a lock: only the ledger says who may write (``journal.py``). So a
beat that comes late, or a lease that a restarted broker forgot, costs at most a replay.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from schemas import codec, names
from schemas.runs import LeaseBeat
from shared.bus.interface import Bus, StoredMessage
from shared.clock import Clock
from shared.errors import MoontideError
from shared.ledger.journal import run_of

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.5
BEATS_PER_LOOK = 3
"""An owner looks for a later one before every so many beats."""
LEASE_SECONDS = 4.0
"""How long a beat counts: several of them may be lost."""
MAX_BYTES = 16 * 1024 * 1024


class Leases:
    def __init__(self, bus: Bus, clock: Clock, lease_seconds: float = LEASE_SECONDS) -> None:
        self._bus = bus
        self._clock = clock
        self._lease_seconds = lease_seconds

    async def declare(self) -> None:
        await self._bus.declare_latest(
            names.STREAM_LEASES, (names.LEASES_ALL,), max_bytes=MAX_BYTES, keep_seconds=self._lease_seconds
        )

    @asynccontextmanager
    async def held(
        self, run_id: str, owner: str, term: int, on_lost: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Beats while entered, whatever the bus does meanwhile; left, the lease is gone at once. When an owner of a
        later term beats, this one stops (it would only hide that the other one died), and ``on_lost`` is called."""
        beat = LeaseBeat(run_id=run_id, owner=owner, term=term)
        beating = asyncio.create_task(self._beat_until_lost(beat, on_lost), name=f"lease of {run_id}")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])
            await self._release(beat)

    async def holder(self, run_id: str) -> LeaseBeat | None:
        """Who beat last, within the lease's time."""
        message = await self._bus.last_of(names.STREAM_LEASES, names.run_lease(run_id))
        return _beat_of(message) if message is not None else None

    async def holders(self) -> dict[str, LeaseBeat]:
        """Of every run that somebody takes care of."""
        found: dict[str, LeaseBeat] = {}
        after = 0
        while batch := await self._bus.read_log(
            names.STREAM_LEASES, names.LEASES_ALL, after_sequence=after, limit=1000
        ):
            found |= {run_of(message.subject): beat for message in batch if (beat := _beat_of(message))}
            after = batch[-1].sequence
        return found

    async def _beat_until_lost(self, beat: LeaseBeat, on_lost: Callable[[], None] | None) -> None:
        subject, data = names.run_lease(beat.run_id), codec.encode(beat)
        for number in itertools.count():
            try:
                if number % BEATS_PER_LOOK == 0 and await self._is_lost(beat):
                    break
                await self._bus.publish(subject, data)
            except MoontideError as error:
                log.warning("lease not renewed", extra={"run_id": beat.run_id, "code": error.code})
            await self._clock.sleep(BEAT_SECONDS)
        log.info("lease lost", extra={"run_id": beat.run_id, "term": beat.term})
        if on_lost is not None:
            on_lost()

    async def _is_lost(self, beat: LeaseBeat) -> bool:
        holder = await self.holder(beat.run_id)
        return holder is not None and holder.term > beat.term

    async def _release(self, beat: LeaseBeat) -> None:
        """Only this very beat is removed: a new owner's stays."""
        try:
            await self._bus.flush()
            last = await self._bus.last_of(names.STREAM_LEASES, names.run_lease(beat.run_id))
            if last is not None and _beat_of(last) == beat:
                await self._bus.remove(names.STREAM_LEASES, last.sequence)
        except MoontideError as error:
            log.warning("lease left to expire", extra={"run_id": beat.run_id, "code": error.code})


def _beat_of(message: StoredMessage) -> LeaseBeat | None:
    """None for what is no beat: nobody owns by writing rubbish."""
    try:
        return codec.decode(message.data, LeaseBeat)
    except msgspec.MsgspecError:
        return None
