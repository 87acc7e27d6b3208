"""Wiring of the coordinator: streams, ownership of runs, wake-ups, answers, the sweeper; ended in reverse order.

Input: a configuration and a process. Output: a running coordinator. Tests hand in another order or another writer.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from schemas import names
from services.coordinator.book import RunBook
from services.coordinator.config import CoordinatorConfig
from services.coordinator.desk import Desk
from services.coordinator.handlers import Handlers
from services.coordinator.models import Models
from services.coordinator.order import Order
from services.coordinator.ownership import Ownership
from services.coordinator.prices import read_prices
from services.coordinator.queue import RUNS_QUEUE
from services.coordinator.sweeper import sweeping
from services.coordinator.tool_call import ToolDesk
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger, LedgerWriter
from shared.ledger.leases import Leases
from shared.request_events import RequestEvents

if TYPE_CHECKING:
    from shared.service import Process

VERSION = "1.0.0"
METADATA = {"kinds": "agent"}
WAKE_UPS_IN_FLIGHT = 4
"""Runs that are taken at once; each is then driven as a task of its own."""


@asynccontextmanager
async def app(
    config: CoordinatorConfig,
    process: "Process",
    *,
    order: Order | None = None,
    writer: type[LedgerWriter] = LedgerWriter,
) -> AsyncIterator[None]:
    """Entered: runs are accepted and driven. Left: every run has been left at a clean point, for others."""
    desk = make_desk(config, process, order or Order(), writer)
    leases = Leases(process.bus, process.clock)
    await desk.ledger.declare()
    await desk.commands.declare()
    await leases.declare()
    await desk.events.declare_if_missing()
    await process.bus.declare(RUNS_QUEUE)
    ownership = Ownership(desk, leases)
    endpoints = Handlers(desk, RunBook(desk.ledger, desk.blobs)).endpoints()
    async with (
        process.bus.consume(RUNS_QUEUE, ownership.handle, in_flight=WAKE_UPS_IN_FLIGHT),
        process.bus.offer(names.SERVICE_COORDINATOR, endpoints, version=VERSION, metadata=METADATA),
        sweeping(
            process.bus,
            process.clock,
            ledger=desk.ledger,
            leases=leases,
            commands=desk.commands,
            events=desk.events,
            keep_seconds=config.keep_seconds,
        ),
        ownership.running(),  # left first: runs go to others while the rest still answers
    ):
        yield


def make_desk(config: CoordinatorConfig, process: "Process", order: Order, writer: type[LedgerWriter]) -> Desk:
    return Desk(
        config=config,
        bus=process.bus,
        clock=process.clock,
        blobs=process.blobs,
        telemetry=process.telemetry,
        ledger=Ledger(process.bus, process.clock, writer),
        commands=CommandLog(process.bus, process.clock),
        events=RequestEvents(process.bus, process.clock, "coordinator"),
        models=Models(process.bus, process.clock),
        prices=read_prices(config.prices_file),
        tools=ToolDesk(process.bus, process.clock, process.blobs),
        order=order,
    )
