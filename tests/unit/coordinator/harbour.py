"""A whole coordinator in virtual time: the fake bus, blobs in memory, a scripted model and scripted tools.

Hours of waiting run in milliseconds, and equally each time.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from obstore.store import MemoryStore

from schemas.blobs import BlobRef
from services.coordinator.app import app
from services.coordinator.config import CoordinatorConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker, FakeBus
from shared.errors import NotFound
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


class Harbour(Client):
    def __init__(self, stack: AsyncExitStack) -> None:
        self.broker = FakeBroker(1)
        self.memory = MemoryBlobs()
        self.clock = VirtualClock()
        super().__init__(self.broker.bus("client"), self.memory, stack, self.clock)

    async def coordinator(self, config: CoordinatorConfig = CONFIG) -> FakeBus:
        """Running when this returns. The bus can be killed."""
        bus = self.broker.bus("coordinator")
        telemetry = Telemetry(service="coordinator", instance=bus.instance, bus=bus)
        process = Process(name="coordinator", bus=bus, blobs=self.memory, telemetry=telemetry, clock=self.clock)
        await self._stack.enter_async_context(app(config, process))
        return bus


@asynccontextmanager
async def _harbour() -> AsyncIterator[Harbour]:
    async with AsyncExitStack() as stack:
        yield Harbour(stack)


def sail(test: Callable[[Harbour], Awaitable[None]]) -> None:
    """Run a test in virtual time."""

    async def main() -> None:
        async with _harbour() as harbour:
            await test(harbour)

    virtual_time.run(main())
