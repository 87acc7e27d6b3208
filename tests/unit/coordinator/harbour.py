"""A whole coordinator in virtual time: the fake bus, blobs in memory, a scripted model and scripted tools.

Hours of waiting run in milliseconds, and equally each time.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from obstore.store import MemoryStore

from schemas.blobs import BlobRef
from services.coordinator.app import app
from services.coordinator.config import CoordinatorConfig
from services.coordinator.order import Order
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker, FakeBus
from shared.errors import NotFound
from shared.ledger.audit import run_findings
from shared.ledger.journal import Ledger
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests import virtual_time
from tests.integration.coordinator.stage import Client
from tests.virtual_time import VirtualClock

CONFIG = CoordinatorConfig()


class MemoryBlobs(BlobStore):
    """Without threads: a loop whose time jumps would not wait for them."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes) -> BlobRef:
        key = f"sha256/{hashlib.sha256(data).hexdigest()}"
        self.kept[key] = data
        return BlobRef(key=key, size_bytes=len(data))

    async def get(self, ref: BlobRef) -> bytes:
        if ref.key not in self.kept:
            raise NotFound("blob.not_found", f"{ref.key} is not in the blob store")
        return self.kept[ref.key]

    async def put_record(self, kind: str, name: str, data: bytes) -> None:
        self.kept[f"{kind}/{name}"] = data

    async def get_record(self, kind: str, name: str) -> bytes | None:
        return self.kept.get(f"{kind}/{name}")


class Mortal:
    """A coordinator that dies as by ``kill -9``: from one moment to the next nothing of it reaches anybody."""

    def __init__(self, bus: FakeBus, task: "asyncio.Task[None]") -> None:
        self.bus = bus
        self._task = task

    def kill(self) -> None:
        self.bus.kill()
        self._task.cancel()


class Harbour(Client):
    poll_seconds = 0.5

    def __init__(self, stack: AsyncExitStack) -> None:
        self.broker = FakeBroker(1)
        self.memory = MemoryBlobs()
        self.clock = VirtualClock()
        super().__init__(self.broker.bus("client"), self.memory, stack, self.clock)

    async def coordinator(self, config: CoordinatorConfig = CONFIG) -> FakeBus:
        """Running when this returns. The bus can be killed."""
        bus = self.broker.bus("coordinator")
        await self._stack.enter_async_context(app(config, self._process(bus)))
        return bus

    async def mortal(self, config: CoordinatorConfig = CONFIG, order: Order | None = None) -> Mortal:
        """Running when this returns, in a task of its own. ``order``: a wrong one may be planted."""
        bus, ready = self.broker.bus("coordinator"), asyncio.Event()

        async def serve() -> None:
            async with app(config, self._process(bus), order=order):
                ready.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(serve())
        self._stack.push_async_callback(_ended, task)
        await ready.wait()
        return Mortal(bus, task)

    async def audit(self) -> None:
        """Nothing is in any ledger that must not be there."""
        ledger = Ledger(self.broker.bus("auditor"), self.clock)
        for run_id in await ledger.run_ids():
            assert run_findings(run_id, await ledger.read(run_id, limit=1000)) == []

    def _process(self, bus: FakeBus) -> Process:
        telemetry = Telemetry(service="coordinator", instance=bus.instance, bus=bus)
        return Process(name="coordinator", bus=bus, blobs=self.memory, telemetry=telemetry, clock=self.clock)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


def sail(test: Callable[[Harbour], Awaitable[None]], kind: type[Harbour] = Harbour) -> None:
    """Run a test in virtual time; afterwards every ledger is audited."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            harbour = kind(stack)
            await test(harbour)
            await harbour.audit()

    virtual_time.run(main())
