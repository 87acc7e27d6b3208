"""Answers counting calls as a process of its own. Prints ``ready``, ``started START`` and how each call ended."""

import asyncio
import signal
import sys

from schemas import names
from schemas.request import RequestContext
from shared.bus.connection import connect
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.clock import SystemClock
from shared.errors import Cancelled
from tests.integration.participants.counting import ITEM_SECONDS, POLICY, Number, Wanted, bus_config


async def count(context: RequestContext, body: Wanted, out: CallWriter) -> None:
    print("started", body.start, flush=True)
    try:
        for value in range(body.start, body.count):
            await asyncio.sleep(ITEM_SECONDS)
            await out.send(Number(value))
    except (asyncio.CancelledError, Cancelled):  # while it waits, or by the item that it wanted to send just then
        print("cancelled", flush=True)
        raise
    print("done", flush=True)


async def main(url: str, user: str, password_file: str, word: str) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with (
        connect(bus_config(url, user, password_file), "callee") as bus,
        serve(
            bus,
            SystemClock(),
            name=word,
            subject=names.generate(word),
            handler=count,
            body_type=Wanted,
            max_calls=4,
            version="1.0.0",
            policy=POLICY,
            drain_seconds=0.3,
        ),
    ):
        print("ready", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
