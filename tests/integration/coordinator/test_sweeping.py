"""The sweeper on a real nats-server: holders that are killed or frozen, and a broker that is away for a while."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas import codec, names
from schemas.events import CloudEvent
from services.coordinator import lost_chats
from services.coordinator import sweeper as sweeper_module
from services.coordinator.queue import RUNS_QUEUE
from services.coordinator.sweeper import sweeping
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.interface import Bus
from shared.clock import SystemClock
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger
from shared.ledger.leases import Leases
from shared.request_events import RequestEvents
from tests.integration.process import coordinates, running
from tests.unit.ledger.history import accepted

HOLDER = "tests.integration.participants.chat_holder"


@pytest.fixture
async def own_broker(broker_directory: Path) -> AsyncIterator[Broker]:
    broker = Broker.prepare(broker_directory)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_chats, "GONE_SECONDS", 4.0)
    monkeypatch.setattr(lost_chats, "SILENT_SECONDS", 6.0)
    monkeypatch.setattr(sweeper_module, "CHATS_SECONDS", 0.5)


@asynccontextmanager
async def sweeper(broker: Broker) -> AsyncIterator[Bus]:
    clock = SystemClock()
    async with connect(broker.config, "coordinator") as bus:
        ledger, leases, commands = Ledger(bus, clock), Leases(bus, clock), CommandLog(bus, clock)
        events = RequestEvents(bus, clock, "coordinator")
        await ledger.declare(partition_bytes=1 << 24)
        await leases.declare()
        await commands.declare()
        await events.declare_if_missing()
        await bus.declare(RUNS_QUEUE)
        async with sweeping(
            bus, clock, ledger=ledger, leases=leases, commands=commands, events=events, keep_seconds=1e6
        ):
            yield bus


async def records(bus: Bus) -> Counter[str]:
    known = await bus.read_log(names.STREAM_EVENTS, names.EVENTS_ALL, limit=1000)
    found = [codec.decode_json(message.data, CloudEvent) for message in known]
    return Counter(f"{event.subject} {event.type.rsplit('.', 1)[-1]}" for event in found)


async def recorded(bus: Bus, line: str, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while line not in await records(bus):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.1)


async def test_chats_of_a_killed_holder_are_closed_once_and_those_of_a_living_one_stay(own_broker: Broker) -> None:
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(sweeper(own_broker)) for _ in range(2)]
        dead = await stack.enter_async_context(running(HOLDER, *coordinates(own_broker), "chat-a", "chat-b"))
        alive = await stack.enter_async_context(running(HOLDER, *coordinates(own_broker), "chat-c"))
        assert (await dead.line())[0] == (await alive.line())[0] == "holds"
        await dead.kill()
        for line in ("chat-a failed", "chat-b failed"):
            await recorded(buses[0], line, 30.0)
        assert await records(buses[0]) == {
            **{f"chat-{name} accepted": 1 for name in "abc"},
            **{f"chat-{name} failed": 1 for name in "ab"},
        }


async def test_a_broker_that_was_away_closes_nothing_and_wakes_what_nobody_has(own_broker: Broker) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(sweeper(own_broker))
        alive = await stack.enter_async_context(running(HOLDER, *coordinates(own_broker), "chat-c"))
        assert (await alive.line())[0] == "holds"
        owner = await stack.enter_async_context(connect(own_broker.config, "owner"))
        ledger = Ledger(bus, SystemClock())
        await ledger.accept(replace(accepted("run-b"), time_unix_seconds=time.time()))
        await stack.enter_async_context(Leases(owner, SystemClock()).held("run-b", "owner", 1))
        await recorded(bus, "run-b accepted", 20.0)
        await own_broker.stop()
        await asyncio.sleep(5.0)  # longer than patience lasts
        await own_broker.start()
        await bus.flush(10.0)
        await ledger.accept(replace(accepted("run-a"), time_unix_seconds=time.time()))
        async with asyncio.timeout(20.0):
            while not await bus.subjects_of(names.STREAM_RUNS, names.run_wake("run-a")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.sleep(5.0)  # patience, once more
        assert await records(bus) == {f"{name} accepted": 1 for name in ("chat-c", "run-a", "run-b")}
        assert await bus.subjects_of(names.STREAM_RUNS, names.RUNS_ALL) == {names.run_wake("run-a"): 1}


async def test_a_frozen_holder_is_given_up_after_longer_and_cannot_end_its_chat_any_more(own_broker: Broker) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(sweeper(own_broker))
        frozen = await stack.enter_async_context(running(HOLDER, *coordinates(own_broker), "chat-a"))
        _, holder = await frozen.line()
        frozen.send_signal(signal.SIGSTOP)
        await recorded(bus, "chat-a failed", 40.0)
        last = await bus.last_of(names.STREAM_EVENTS, names.event_terminal("chat-a"))
        assert last is not None
        data = codec.decode_json(last.data, CloudEvent).data
        assert (data.holder, data.failure) == (holder, lost_chats.LOST)
        frozen.send_signal(signal.SIGCONT)
        events = RequestEvents(bus, SystemClock(), "gateway")
        assert not await events.record_terminal("finished", data)
