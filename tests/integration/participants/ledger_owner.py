"""Owns a run as a process of its own that a test freezes: prints ``took TERM``, ``wrote SEQUENCE``…, ``fenced``.

With ``stop-itself`` it freezes in the middle of its fifth append: the entry is made, and not yet sent.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from schemas.failure import Failure
from schemas.runs import LeaseTaken, ModelAsked, ModelFailed
from shared.bus.connection import BusConfig, NatsBus, connect
from shared.clock import SystemClock
from shared.ledger.journal import Fenced, Ledger

STOPS_AT = 5


async def main(url: str, user: str, password_file: str, run_id: str, mode: str) -> None:
    config = BusConfig(nats_url=url, user=user, password_file=Path(password_file))
    async with connect(config, "owner") as bus:
        if mode == "stop-itself":
            stop_in_an_append(bus)
        ledger = Ledger(bus, SystemClock())
        state = await ledger.state(run_id)
        term = state.place.term + 1
        writer = ledger.writer(run_id, bus.instance, term, state.last_sequence)
        await writer.append([LeaseTaken(owner=bus.instance, term=term)])
        print("took", term, flush=True)
        attempt = 0
        try:
            while True:
                attempt += 1
                asked = ModelAsked(step=1, attempt=attempt, message_count=1)
                failed = ModelFailed(step=1, attempt=attempt, failure=Failure(code="busy", message="", status=429))
                numbered = await writer.append([asked, failed])
                print("wrote", numbered.sequence, flush=True)
        except Fenced:
            print("fenced", flush=True)


def stop_in_an_append(bus: NatsBus) -> None:
    append_at, appends = bus.append_at, 0

    async def stopping(*arguments: object, **options: object) -> int | None:
        nonlocal appends
        appends += 1
        if appends == STOPS_AT:
            os.kill(os.getpid(), signal.SIGSTOP)
        return await append_at(*arguments, **options)  # type: ignore[arg-type]

    bus.append_at = stopping  # type: ignore[method-assign]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
