"""Follows one counting call as a process of its own. Prints ``item VALUE`` for each, then ``end``."""

import asyncio
import sys
import time

from schemas import names
from schemas.request import RequestContext
from shared.bus.connection import connect
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from tests.integration.participants.counting import POLICY, Number, Wanted, bus_config


async def main(url: str, user: str, password_file: str, word: str, count: str) -> None:
    context = RequestContext(request_id="r", deadline_unix_seconds=time.time() + 60.0)
    target = CallTarget(subject=names.generate(word), context=context, policy=POLICY)
    received: list[int] = []
    async with connect(bus_config(url, user, password_file), "caller") as bus:
        async for item in follow(bus, SystemClock(), target, lambda: Wanted(len(received), int(count)), Number):
            received.append(item.value)
            print("item", item.value, flush=True)
    print("end", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
