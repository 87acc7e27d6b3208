"""The sweeper of design principle 8: whatever was accepted ends, also when its holder died.

In: a bus. Out: unattended runs woken, lost chats closed, records made up for; every second or so, in every coordinator,
so that none is needed in particular. A scan that fails is the next one's work. It must not know what runs and chats do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.coordinator.lost_chats import LostChats
from services.coordinator.unattended_runs import UnattendedRuns
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger
from shared.ledger.leases import Leases
from shared.request_events import RequestEvents

log = logging.getLogger(__name__)

RUNS_SECONDS = 0.75
CHATS_SECONDS = 2.0
SHARE = 0.1
"""At most so much of the time is spent on one sort of scan: a large deployment is looked at less often."""
MAX_PAUSE_SECONDS = 10.0


@asynccontextmanager
async def sweeping(
    bus: Bus,
    clock: Clock,
    *,
    ledger: Ledger,
    leases: Leases,
    commands: CommandLog,
    events: RequestEvents,
    keep_seconds: float,
) -> AsyncIterator[None]:
    """Sweeps while entered. Everything that is given is declared already. ``keep_seconds``: how long a ledger is kept
    behind its end."""
    runs = UnattendedRuns(
        bus, clock, ledger=ledger, leases=leases, commands=commands, events=events, keep_seconds=keep_seconds
    )
    chats = LostChats(bus, clock, events)
    tasks = [
        asyncio.create_task(_repeated(clock, runs.scan, runs.disturbed, RUNS_SECONDS), name="sweep runs"),
        asyncio.create_task(_repeated(clock, chats.scan, chats.disturbed, CHATS_SECONDS), name="sweep chats"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _repeated(
    clock: Clock, scan: Callable[[], Awaitable[None]], disturbed: Callable[[], None], seconds: float
) -> None:
    while True:
        started = clock.monotonic_seconds()
        pause = seconds
        try:
            await scan()
            took = clock.monotonic_seconds() - started
            pause = max(seconds, took / SHARE - took)
        except MoontideError as error:
            disturbed()
            log.warning("sweep interrupted", extra={"code": error.code})
        except Exception:
            disturbed()
            log.exception("sweep failed")
        await clock.sleep(min(pause, MAX_PAUSE_SECONDS))
