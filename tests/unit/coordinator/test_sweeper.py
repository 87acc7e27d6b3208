"""The sweeper on the fake bus, in virtual time: whatever was accepted ends, and nothing that lives is closed."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from schemas import codec, names
from schemas.blobs import BlobRef
from schemas.events import CloudEvent, RequestData
from schemas.request import RequestContext
from schemas.runs import LeaseTaken, LedgerEntry, RunAccepted, RunEnded, RunOrigin, RunSpec
from services.coordinator import lost_chats, sweeper
from services.coordinator.absences import Absences
from shared.bus.fake import FakeBroker, FakeBus
from shared.bus.interface import Job, WorkQueue
from shared.errors import Unavailable
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger
from shared.ledger.leases import LEASE_SECONDS, Leases
from shared.request_events import RequestEvents
from tests import virtual_time
from tests.virtual_time import VirtualClock

QUEUE = WorkQueue(stream=names.STREAM_RUNS, subjects=(names.RUNS_ALL,), durable=names.DURABLE_COORDINATOR)


class Place:
    """A coordinator's parts on one bus."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.clock = VirtualClock()
        self.ledger = Ledger(bus, self.clock)
        self.leases = Leases(bus, self.clock)
        self.commands = CommandLog(bus, self.clock)
        self.events = RequestEvents(bus, self.clock, "coordinator")

    async def declare(self) -> "Place":
        for part in (self.ledger, self.leases, self.commands):
            await part.declare()
        await self.events.declare(1 << 24, 1e6)
        await self.bus.declare(QUEUE)
        return self

    @asynccontextmanager
    async def sweeping(self, keep_seconds: float = 1e6) -> AsyncIterator[None]:
        async with sweeper.sweeping(
            self.bus,
            self.clock,
            ledger=self.ledger,
            leases=self.leases,
            commands=self.commands,
            events=self.events,
            keep_seconds=keep_seconds,
        ):
            yield

    async def accept(self, run_id: str, origin: RunOrigin | None = None) -> None:
        spec = RunSpec(model="moonlet", messages=(BlobRef(key="sha256/" + "a" * 64, size_bytes=1),))
        context = RequestContext(request_id=run_id, deadline_unix_seconds=2e9)
        await self.ledger.accept(
            LedgerEntry(
                entry_id=secrets.token_hex(8),
                run_id=run_id,
                owner=self.bus.instance,
                term=0,
                time_unix_seconds=self.clock.unix_seconds(),
                events=(RunAccepted(context=context, spec=spec, origin=origin),),
            )
        )

    async def end(self, run_id: str) -> None:
        state = await self.ledger.state(run_id)
        term = state.place.term + 1
        writer = self.ledger.writer(run_id, self.bus.instance, term, state.last_sequence)
        await writer.append([LeaseTaken(owner=self.bus.instance, term=term), RunEnded(outcome="cancelled")])


def in_virtual_time(test: Callable[[FakeBroker], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        virtual_time.run(_main(test))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def _main(test: Callable[[FakeBroker], Awaitable[None]]) -> None:
    await test(FakeBroker(5))


def wakes(broker: FakeBroker) -> Counter[str]:
    return Counter(message.subject.rsplit(".", 1)[-1] for message in broker.streams[names.STREAM_RUNS].messages)


def records(broker: FakeBroker) -> Counter[str]:
    known = [codec.decode_json(stored.data, CloudEvent) for stored in broker.streams[names.STREAM_EVENTS].messages]
    return Counter(f"{event.subject} {event.type.rsplit('.', 1)[-1]}" for event in known)


@in_virtual_time
async def test_a_run_without_lease_is_woken_once_however_many_sweep(broker: FakeBroker) -> None:
    places = [await Place(broker.bus("c")).declare() for _ in range(3)]
    await places[0].accept("run-a")
    await places[0].accept("run-b")
    async with contextlib.AsyncExitStack() as stack:
        for place in places:
            await stack.enter_async_context(place.sweeping())
        await stack.enter_async_context(places[0].leases.held("run-b", "c", 1))
        await asyncio.sleep(60.0)
        assert wakes(broker) == {"run-a": 1}
    assert records(broker) == {"run-a accepted": 1, "run-b accepted": 1}


@in_virtual_time
async def test_a_run_is_woken_again_when_its_owner_dies(broker: FakeBroker) -> None:
    place, owner = await Place(broker.bus("c")).declare(), await Place(broker.bus("d")).declare()
    await place.accept("run-a")
    taken: list[float] = []

    async def take(job: Job) -> None:
        taken.append(place.clock.monotonic_seconds())

    async with place.sweeping(), place.bus.consume(QUEUE, take, in_flight=1), owner.leases.held("run-a", "d", 1):
        await asyncio.sleep(30.0)
        assert taken == []
        died = place.clock.monotonic_seconds()
        owner.bus.kill()
        await asyncio.sleep(LEASE_SECONDS + 4.0)
        assert len(taken) >= 1
        assert taken[0] - died < LEASE_SECONDS + 3.0


@in_virtual_time
async def test_an_ended_run_is_left_alone_and_announced(broker: FakeBroker) -> None:
    place = await Place(broker.bus("c")).declare()
    await place.accept("run-a")
    await place.end("run-a")
    async with place.sweeping():
        await asyncio.sleep(20.0)
        await place.accept("run-b")
        await place.end("run-b")
        await asyncio.sleep(20.0)
    assert wakes(broker) == {}
    assert records(broker) == {f"{run} {what}": 1 for run in ("run-a", "run-b") for what in ("accepted", "cancelled")}


@in_virtual_time
async def test_one_unreadable_ledger_does_not_hide_the_others(broker: FakeBroker) -> None:
    place = await Place(broker.bus("c")).declare()
    partition = names.ledger_partition("run-x")
    await place.bus.publish(names.ledger(partition, "run-x"), b"rubbish")
    await place.accept("run-a")
    async with place.sweeping():
        await asyncio.sleep(20.0)
    assert wakes(broker) == {"run-a": 1}


@in_virtual_time
async def test_old_runs_are_removed_unless_a_fork_needs_them(broker: FakeBroker) -> None:
    place = await Place(broker.bus("c")).declare()
    for run_id in ("run-a", "run-b", "run-c"):
        await place.accept(run_id)
    await place.end("run-a")
    await place.end("run-b")
    await place.accept("run-d", origin=RunOrigin(run_id="run-b", step=0))
    async with place.sweeping(keep_seconds=100.0):
        await asyncio.sleep(90.0)
        assert await place.ledger.run_ids() == ["run-a", "run-b", "run-c", "run-d"]
        await asyncio.sleep(40.0)
        assert await place.ledger.run_ids() == ["run-b", "run-c", "run-d"]
        await place.end("run-d")
        await asyncio.sleep(150.0)
        assert await place.ledger.run_ids() == ["run-c"]


def chat(request_id: str, holder: str) -> RequestData:
    return RequestData(request_id=request_id, holder=holder, kind="chat")


@in_virtual_time
async def test_chats_of_a_dead_holder_are_closed_and_those_of_a_living_one_are_not(broker: FakeBroker) -> None:
    places = [await Place(broker.bus("c")).declare() for _ in range(3)]
    dead, alive = broker.bus("gateway"), broker.bus("gateway")
    held = {bus: RequestEvents(bus, VirtualClock(), "gateway") for bus in (dead, alive)}
    async with contextlib.AsyncExitStack() as stack:
        for place in places:
            await stack.enter_async_context(place.sweeping())
        for number, (bus, events) in enumerate(held.items()):
            await stack.enter_async_context(events.answering())
            for name in "xyz":
                await events.accept(chat(f"chat-{number}{name}", bus.instance))
            events.end("finished", chat(f"chat-{number}z", bus.instance))
            await events.settle()
        await asyncio.sleep(60.0)
        before = records(broker)
        assert sum(before.values()) == 8
        dead.kill()
        await asyncio.sleep(60.0)
        new = records(broker) - before
        assert new == {"chat-0x failed": 1, "chat-0y failed": 1}
    last = codec.decode_json(broker.streams[names.STREAM_EVENTS].messages[-1].data, CloudEvent)
    assert last.data.failure == lost_chats.LOST
    assert last.data.holder == dead.instance


@in_virtual_time
async def test_a_record_that_its_holder_could_not_write_is_made_up_for(broker: FakeBroker) -> None:
    place = await Place(broker.bus("c")).declare()
    bus = broker.bus("gateway")
    events = RequestEvents(bus, VirtualClock(), "gateway")
    async with place.sweeping(), events.answering():
        await events.accept(chat("chat-a", bus.instance))
        broker.lose_appends = 1.0
        events.end("finished", chat("chat-a", bus.instance))
        await events.settle()
        broker.lose_appends = 0.0
        await asyncio.sleep(60.0)
    closed = [line for line in records(broker) if line != "chat-a accepted"]
    assert len(closed) == 1


@in_virtual_time
async def test_chats_of_senders_that_cannot_be_asked_are_not_judged(broker: FakeBroker) -> None:
    place = await Place(broker.bus("c")).declare()
    older = RequestEvents(broker.bus("gateway"), VirtualClock(), "gateway")
    async with place.sweeping():
        await older.accept(RequestData(request_id="chat-a", holder="gateway-old"))
        await asyncio.sleep(120.0)
    assert records(broker) == {"chat-a accepted": 1}


@pytest.mark.parametrize("seconds", [12.0, 100.0])
def test_an_outage_closes_nothing(seconds: float) -> None:
    """The broker is away for a moment or longer than patience lasts, and a holder is back seconds after the sweeper."""

    async def test(broker: FakeBroker) -> None:
        place = await Place(broker.bus("c")).declare()
        bus = broker.bus("gateway")
        events = RequestEvents(bus, VirtualClock(), "gateway")
        outage = Outage(place.bus)
        async with place.sweeping():
            async with events.answering():
                await events.accept(chat("chat-a", bus.instance))
                await asyncio.sleep(20.0)
            await asyncio.sleep(7.0)
            outage.begin()
            await asyncio.sleep(seconds)
            outage.end()
            await asyncio.sleep(7.0)
            async with events.answering():
                await asyncio.sleep(100.0)
        assert records(broker) == {"chat-a accepted": 1}

    in_virtual_time(test)()


class Outage:
    """The broker as one participant sees it when it is away: every round trip fails."""

    def __init__(self, bus: FakeBus) -> None:
        self._bus = bus

    def begin(self) -> None:
        async def away(*_: object, **__: object) -> None:
            raise Unavailable("bus.disconnected", "the bus is not connected")

        for method in ("flush", "request", "read_log", "read_last", "subjects_of", "append_at", "append"):
            setattr(self._bus, method, away)

    def end(self) -> None:
        for method in ("flush", "request", "read_log", "read_last", "subjects_of", "append_at", "append"):
            delattr(self._bus, method)


def test_absences_need_time_and_looks_without_a_gap() -> None:
    absences = Absences(10.0, 3, 5.0)
    assert absences.look(0.0, ["a"]) == []
    assert absences.look(4.0, ["a", "b"]) == []
    assert absences.look(8.0, ["a", "b"]) == []
    assert absences.look(10.0, ["a", "b"]) == ["a"]
    assert absences.look(12.0, ["b"]) == []
    assert absences.look(13.0, ["a", "b"]) == []
    assert absences.look(14.0, ["a", "b"]) == ["b"]
    absences.settled("b")
    assert absences.look(15.0, ["a", "b"]) == []
    assert absences.look(60.0, ["a", "b"]) == []  # nobody looked in between
    absences.disturbed()
    assert absences.look(61.0, ["a"]) == []


def test_absences_of_one_look_are_not_enough() -> None:
    assert Absences(0.0, 2, 5.0).look(0.0, ["a"]) == []
