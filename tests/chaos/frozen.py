"""``python -m tests.chaos.frozen``: a coordinator that stops itself in the middle of an append, once.

``CHAOS_FREEZE_AT`` is ``before`` (the append is decided, and not sent) or ``sent`` (it is on its way, and nobody has
heard of it); ``CHAOS_FREEZE_APPEND`` says which append of the process; ``CHAOS_FREEZE_FILE`` tells its pid, and
exists once somebody was frozen: nobody is a second time. ``CHAOS_FENCING=off`` shows what would be without fencing.
"""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

from schemas.runs import LedgerEntry
from services.coordinator.app import app
from services.coordinator.config import CoordinatorConfig
from shared.ledger.journal import LedgerWriter
from shared.service import Service, main

TURNS = 20
"""Of the event loop, in which an append gets onto its way."""


class Freezing(LedgerWriter):
    at = os.environ.get("CHAOS_FREEZE_AT", "before")
    left = int(os.environ.get("CHAOS_FREEZE_APPEND", "1"))
    fenced = os.environ.get("CHAOS_FENCING", "on") == "on"
    file = Path(os.environ.get("CHAOS_FREEZE_FILE", "frozen"))

    def expected(self) -> int | None:
        return super().expected() if self.fenced else None

    async def _store(self, entry: LedgerEntry) -> int | None:
        Freezing.left -= 1
        if Freezing.left != 0 or not self._is_first():
            return await super()._store(entry)
        if self.at == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
            return await super()._store(entry)
        storing = asyncio.create_task(super()._store(entry))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        return await storing

    def _is_first(self) -> bool:
        try:
            with self.file.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return False
        return True


if __name__ == "__main__":
    main(Service("coordinator", CoordinatorConfig, partial(app, writer=Freezing)))
