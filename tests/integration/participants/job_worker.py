"""Takes jobs as a process of its own that a test kills: prints ``took SUBJECT ATTEMPT`` and never finishes."""

import asyncio
import sys
from pathlib import Path

from shared.bus.connection import BusConfig, connect
from shared.bus.interface import Job, WorkQueue


async def main(url: str, user: str, password_file: str, word: str) -> None:
    queue = WorkQueue(stream=word, subjects=(f"{word}.*",), durable="reader", ack_wait_seconds=0.5, max_attempts=2)

    async def work(job: Job) -> None:
        print("took", job.subject, job.attempt_number, flush=True)
        await asyncio.Event().wait()

    async def on_parked(job: Job, reason: str) -> None:
        print("parked", job.subject, job.attempt_number, flush=True)

    config = BusConfig(nats_url=url, user=user, password_file=Path(password_file))
    async with connect(config, "worker") as bus, bus.consume(queue, work, in_flight=1, on_parked=on_parked):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
