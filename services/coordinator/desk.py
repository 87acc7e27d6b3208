"""What every run of one coordinator process works with."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.blobs import BlobRef
from services.coordinator.config import CoordinatorConfig
from services.coordinator.models import Models
from services.coordinator.order import Order
from services.coordinator.prices import Prices
from services.coordinator.tool_call import ToolDesk
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger
from shared.request_events import RequestEvents

if TYPE_CHECKING:
    from shared.telemetry.tracing import Telemetry


log = logging.getLogger("coordinator")

KEEP_TRIES = 10
KEEP_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Desk:
    config: CoordinatorConfig
    bus: Bus
    clock: Clock
    blobs: BlobStore
    telemetry: "Telemetry"
    ledger: Ledger
    commands: CommandLog
    events: RequestEvents
    models: Models
    prices: Prices
    tools: ToolDesk
    order: Order = field(default_factory=Order)

    async def keep(self, data: bytes) -> BlobRef:
        """In the blob store when this returns: an answer that was paid for is not given up for a store that is away
        for some seconds. Raises what the store says when that lasts."""
        for number in range(1, KEEP_TRIES):
            try:
                return await self.blobs.put(data)
            except MoontideError as error:
                if not error.retryable:
                    raise
                log.warning("blob not stored", extra={"code": error.code, "try": number})
            await self.clock.sleep(KEEP_PAUSE_SECONDS)
        return await self.blobs.put(data)
