"""A real gateway with a scripted coordinator behind it, in a thread of its own, for commands that run in this one."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.bus.fake import FakeBroker
from tests.endpoints.scripted_coordinator import ScriptedCoordinator, coordinating
from tests.endpoints.scripted_model import served

T = TypeVar("T")


@dataclass
class RunsGateway:
    url: str
    coordinator: ScriptedCoordinator
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """``work`` in the gateway's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)


@contextmanager
def runs_gateway(folder: Path, **fields: Any) -> Iterator[RunsGateway]:
    """``fields``: of ``ScriptedCoordinator``."""
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def enter() -> RunsGateway:
        broker = FakeBroker(seed=1)
        url, model = await stack.enter_async_context(
            served(broker.bus("tokenizer"), broker.bus("gateway"), folder, run_poll_seconds=0.1)
        )
        entering = coordinating(broker.bus("coordinator"), model.blobs, **fields)
        return RunsGateway(url, await stack.enter_async_context(entering), loop)

    try:
        yield asyncio.run_coroutine_threadsafe(enter(), loop).result(20)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
