"""One owner at a time, on a real nats-server: frozen owners, lost acknowledgements, a broker that is killed."""

import asyncio
import random
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from schemas.runs import LeaseTaken, ModelAsked, NumberedEntry, RunEnded
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.interface import Bus
from shared.clock import SystemClock
from shared.errors import MoontideError
from shared.ledger.audit import run_findings
from shared.ledger.journal import Fenced, Ledger, LedgerWriter
from tests.integration.ledger.gate import Gate
from tests.integration.process import coordinates, running
from tests.unit.ledger.history import accepted, answer
from tests.waiting import until


@pytest.fixture
def run_id() -> str:
    return f"run-{secrets.token_hex(6)}"


async def ledger_of(bus: Bus, run_id: str) -> Ledger:
    ledger = Ledger(bus, SystemClock())
    await ledger.declare(partition_bytes=1 << 26)
    await ledger.accept(accepted(run_id))
    return ledger


async def taken(ledger: Ledger, run_id: str, owner: str) -> LedgerWriter:
    state = await ledger.state(run_id)
    term = state.place.term + 1
    writer = ledger.writer(run_id, owner, term, state.last_sequence)
    await writer.append([LeaseTaken(owner=owner, term=term)])
    return writer


async def all_entries(ledger: Ledger, run_id: str) -> list[NumberedEntry]:
    return [numbered async for numbered in ledger.entries(run_id)]


async def test_of_owners_that_want_a_run_at_once_one_gets_it(broker: Broker, run_id: str) -> None:
    async with connect(broker.config, "a") as one, connect(broker.config, "b") as other:
        ledgers = [await ledger_of(bus, run_id) for bus in (one, other)]
        for _ in range(20):
            results = await asyncio.gather(
                *(taken(ledger, run_id, f"owner-{n}") for n, ledger in enumerate(ledgers)), return_exceptions=True
            )
            writers = [result for result in results if isinstance(result, LedgerWriter)]
            assert all(isinstance(result, LedgerWriter | Fenced) for result in results)
            assert len(writers) >= 1
        assert run_findings(run_id, await all_entries(ledgers[0], run_id)) == []


async def test_an_owner_that_was_replaced_cannot_append(broker: Broker, run_id: str) -> None:
    async with connect(broker.config, "a") as one, connect(broker.config, "b") as other:
        old = await taken(await ledger_of(one, run_id), run_id, "old")
        ledger = Ledger(other, SystemClock())
        new = await taken(ledger, run_id, "new")
        with pytest.raises(Fenced):
            await old.append([ModelAsked(step=1, message_count=1)])
        await new.append([ModelAsked(step=1, message_count=1)])
        with pytest.raises(Fenced):
            await old.append([ModelAsked(step=1, message_count=1)])
        assert [entry.entry.owner for entry in await all_entries(ledger, run_id)] == ["", "old", "new", "new"]


@pytest.mark.parametrize("mode", ["stop-itself", *(f"random-{number}" for number in range(6))])
async def test_an_owner_frozen_in_an_append_changes_nothing_when_it_is_back(
    broker: Broker, run_id: str, mode: str
) -> None:
    """It is frozen, somebody else takes the run and ends it, and it is revived."""
    async with connect(broker.config, "test") as bus:
        ledger = await ledger_of(bus, run_id)
        arguments = (*coordinates(broker), run_id, mode)
        async with running("tests.integration.participants.ledger_owner", *arguments) as owner:
            assert await owner.line() == ["took", "1"]
            wrote = 3 if mode == "stop-itself" else random.Random(mode).randrange(1, 40)
            for _ in range(wrote):
                assert (await owner.line())[0] == "wrote"
            if mode != "stop-itself":
                owner.send_signal(signal.SIGSTOP)
            await until(lambda: owner.is_stopped)
            new = await replaced(ledger, run_id)
            await new.append([RunEnded(outcome="cancelled")])
            before = await all_entries(ledger, run_id)
            owner.send_signal(signal.SIGCONT)
            while (line := await owner.line())[0] != "fenced":
                assert line[0] == "wrote"  # before it was frozen
            assert await owner.exit_code() == 0
        assert await all_entries(ledger, run_id) == before
        assert run_findings(run_id, before) == []


async def replaced(ledger: Ledger, run_id: str) -> LedgerWriter:
    """Again while the last appends of the owner before still arrive."""
    while True:
        try:
            return await taken(ledger, run_id, "new")
        except Fenced:
            await asyncio.sleep(0.01)


@pytest.fixture
async def own_broker(broker_directory: Path) -> AsyncIterator[Broker]:
    """A broker that the test may kill."""
    broker = Broker.prepare(broker_directory)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def kill(broker: Broker) -> None:
    process = broker._process
    assert process is not None
    process.kill()
    await process.wait()
    broker._process = None


@pytest.mark.parametrize("landed", [True, False])
async def test_an_append_whose_acknowledgement_died_with_the_broker_is_there_once(
    own_broker: Broker, run_id: str, landed: bool
) -> None:
    """``landed``: the entry was stored before the broker was killed; otherwise it never arrived."""
    port = int(own_broker.url.rsplit(":", 1)[1])
    async with Gate(port).open() as gate, connect(own_broker.config, "test") as direct:
        ledger = await ledger_of(direct, run_id)
        config = msgspec.structs.replace(own_broker.config, nats_url=f"nats://127.0.0.1:{gate.port}")
        async with connect(config, "owner") as bus:
            writer = await taken(Ledger(bus, SystemClock()), run_id, "owner")
            gate.swallow(requests=not landed, answers=landed)
            appending = asyncio.create_task(writer.append([ModelAsked(step=1, message_count=1)]))
            async with asyncio.timeout(10.0):
                await gate.swallowed.wait()
            await stored(ledger, run_id, 3 if landed else 2)
            await kill(own_broker)
            gate.swallow()
            gate.cut()
            await own_broker.start()
            async with asyncio.timeout(60.0):
                numbered = await appending
                await writer.append([answer(1)])
        entries = await all_entries(ledger, run_id)
        assert [len(entry.entry.events) for entry in entries] == [1, 1, 1, 1]
        assert entries[2] == numbered
        assert run_findings(run_id, entries) == []


async def stored(ledger: Ledger, run_id: str, count: int) -> None:
    async with asyncio.timeout(10.0):
        while len(await all_entries(ledger, run_id)) < count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("landed", [True, False])
async def test_an_append_without_acknowledgement_is_fenced_when_the_run_was_taken_meanwhile(
    own_broker: Broker, run_id: str, landed: bool
) -> None:
    port = int(own_broker.url.rsplit(":", 1)[1])
    async with Gate(port).open() as gate, connect(own_broker.config, "test") as direct:
        ledger = await ledger_of(direct, run_id)
        config = msgspec.structs.replace(own_broker.config, nats_url=f"nats://127.0.0.1:{gate.port}")
        async with connect(config, "owner") as bus:
            writer = await taken(Ledger(bus, SystemClock()), run_id, "owner")
            gate.swallow(requests=not landed, answers=landed)
            appending = asyncio.create_task(writer.append([ModelAsked(step=1, message_count=1)]))
            async with asyncio.timeout(10.0):
                await gate.swallowed.wait()
            await stored(ledger, run_id, 3 if landed else 2)
            await taken(ledger, run_id, "new")
            gate.swallow()
            gate.cut()
            with pytest.raises(Fenced):
                async with asyncio.timeout(60.0):
                    await appending
            with pytest.raises(Fenced):
                await writer.append([ModelAsked(step=1, message_count=1)])
        entries = await all_entries(ledger, run_id)
        assert len(entries) == (4 if landed else 3)
        assert entries[-1].entry.owner == "new"
        assert run_findings(run_id, entries) == []


async def test_an_append_that_was_given_up_closes_its_writer(own_broker: Broker, run_id: str) -> None:
    """Cancelled in flight, its outcome is unknown: the writer must not append behind it."""
    async with connect(own_broker.config, "owner") as bus:
        ledger = await ledger_of(bus, run_id)
        writer = await taken(ledger, run_id, "owner")
        await kill(own_broker)
        appending = asyncio.create_task(writer.append([ModelAsked(step=1, message_count=1)]))
        await asyncio.sleep(0.2)
        appending.cancel()
        await asyncio.wait([appending])
        await own_broker.start()
        with pytest.raises(Fenced):
            await writer.append([ModelAsked(step=1, message_count=1)])
        async with asyncio.timeout(30.0):
            await again(ledger, run_id)
        assert run_findings(run_id, await all_entries(ledger, run_id)) == []


async def again(ledger: Ledger, run_id: str) -> None:
    """Taken anew, once the bus is back."""
    while True:
        try:
            await taken(ledger, run_id, "owner")
            return
        except MoontideError:
            await asyncio.sleep(0.1)


class Unfenced(LedgerWriter):
    """Expects nothing: what fencing is there for."""

    def expected(self) -> int | None:
        return None


async def test_without_fencing_the_audit_finds_the_owner_before(broker: Broker, run_id: str) -> None:
    """What these tests would see if the expectation were missing."""
    async with connect(broker.config, "a") as bus:
        await ledger_of(bus, run_id)
        ledger = Ledger(bus, SystemClock(), Unfenced)
        old = await taken(ledger, run_id, "old")
        await taken(ledger, run_id, "new")
        await old.append([ModelAsked(step=1, message_count=1)])
        found = run_findings(run_id, await all_entries(ledger, run_id))
        assert [finding.code for finding in found] == ["ledger.wrong_owner"]
