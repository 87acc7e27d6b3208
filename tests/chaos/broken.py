"""``python -m tests.chaos.broken``: a coordinator in which a part was exchanged for one that breaks a promise.

``CHAOS_BREAK`` says which: ``ack-before-append`` (what is acknowledged is recorded a moment later), ``no-fencing``
(appends expect nothing), ``effect-before-intent`` (model and tools are asked a moment before that is recorded). The
storms must notice each of them.
"""

import asyncio
import os
from functools import partial

from services.coordinator.app import app
from services.coordinator.config import CoordinatorConfig
from services.coordinator.order import Act, Order, Record
from shared.ledger.journal import LedgerWriter
from shared.service import Service, main

BREAKS = ("ack-before-append", "no-fencing", "effect-before-intent")
LATE_SECONDS = 0.4


class Unfenced(LedgerWriter):
    """Appends whatever others have appended meanwhile."""

    def expected(self) -> int | None:
        return None


class Later:
    """Records a moment after what it should have come before."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def acknowledge_first(self, record: Record, act: Act) -> None:
        task = asyncio.create_task(self._late(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await act()

    async def act_first(self, record: Record, act: Act) -> None:
        await act()
        await self._late(record)

    async def _late(self, record: Record) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await record()


def broken(what: str) -> Service[CoordinatorConfig]:
    later = Later()
    planted = {
        "ack-before-append": partial(app, order=Order(confirmations=later.acknowledge_first)),
        "no-fencing": partial(app, writer=Unfenced),
        "effect-before-intent": partial(app, order=Order(effects=later.act_first)),
    }
    return Service("coordinator", CoordinatorConfig, planted[what])


if __name__ == "__main__":
    main(broken(os.environ["CHAOS_BREAK"]))
