"""Accepts chats as a process of its own that a test kills: prints ``holds INSTANCE`` and never ends them."""

import asyncio
import sys
from pathlib import Path

from schemas.events import RequestData
from shared.bus.connection import BusConfig, connect
from shared.clock import SystemClock
from shared.request_events import RequestEvents


async def main(url: str, user: str, password_file: str, *request_ids: str) -> None:
    config = BusConfig(nats_url=url, user=user, password_file=Path(password_file))
    async with connect(config, "holder") as bus:
        events = RequestEvents(bus, SystemClock(), "gateway")
        async with events.answering():
            for request_id in request_ids:
                await events.accept(RequestData(request_id=request_id, holder=bus.instance, kind="chat"))
            print("holds", bus.instance, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
