"""Leases and commands on the fake and on a real nats-server."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

import pytest

from schemas.blobs import BlobRef
from schemas.request import Principal
from schemas.runs import RunCommand, RunCommandBody, SteerRun, StopRun
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.fake import FakeBroker
from shared.bus.interface import Bus
from shared.clock import SystemClock
from shared.ledger.commands import CommandLog, NumberedCommand, untaken
from shared.ledger.leases import LEASE_SECONDS, Leases

OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["fake", "nats"])
def open_bus(request: pytest.FixtureRequest) -> OpenBus:
    if request.param == "nats":
        broker: Broker = request.getfixturevalue("broker")
        return lambda: connect(broker.config, "a")
    fake = FakeBroker(7)

    @asynccontextmanager
    async def open_fake() -> AsyncIterator[Bus]:
        yield fake.bus("a")

    return open_fake


@pytest.fixture
def run_id() -> str:
    return f"run-{secrets.token_hex(4)}"


async def leases_of(bus: Bus) -> Leases:
    leases = Leases(bus, SystemClock())
    await leases.declare()
    return leases


async def held_in(leases: Leases, run_id: str, term: int | None, seconds: float = 5.0) -> None:
    """Returns once the lease is held in that term; None: by nobody."""
    async with asyncio.timeout(seconds):
        while (holder.term if (holder := await leases.holder(run_id)) else None) != term:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_lease_is_renewed_while_it_is_held_and_released_at_once(open_bus: OpenBus, run_id: str) -> None:
    async with open_bus() as bus:
        leases = await leases_of(bus)
        assert await leases.holder(run_id) is None
        async with leases.held(run_id, "owner-1", 3):
            await held_in(leases, run_id, 3)
            await asyncio.sleep(LEASE_SECONDS + 1.0)  # longer than one beat counts
            holder = await leases.holder(run_id)
            assert holder is not None
            assert (holder.owner, holder.term) == ("owner-1", 3)
            assert (await leases.holders())[run_id] == holder
        assert await leases.holder(run_id) is None


def freeze(run_id: str) -> None:
    """No beats any more, as if the process of the present owner were frozen."""
    for task in asyncio.all_tasks():
        if task.get_name() == f"lease of {run_id}":
            task.cancel()


async def test_a_lease_without_beats_expires(open_bus: OpenBus, run_id: str) -> None:
    async with open_bus() as bus, open_bus() as other:
        leases, watching = await leases_of(bus), await leases_of(other)
        async with leases.held(run_id, "owner-1", 1):
            await held_in(watching, run_id, 1)
            freeze(run_id)
            await held_in(watching, run_id, None, LEASE_SECONDS + 5.0)


async def test_a_late_release_leaves_the_new_owners_lease(open_bus: OpenBus, run_id: str) -> None:
    async with open_bus() as bus, AsyncExitStack() as new:
        leases = await leases_of(bus)
        async with leases.held(run_id, "owner-1", 1):
            await held_in(leases, run_id, 1)
            freeze(run_id)
            await new.enter_async_context(leases.held(run_id, "owner-2", 2))
            await held_in(leases, run_id, 2)
        holder = await leases.holder(run_id)
        assert holder is not None
        assert holder.owner == "owner-2"


async def test_an_owner_that_was_replaced_stops_hiding_its_successor(open_bus: OpenBus, run_id: str) -> None:
    """It was frozen and is back, and does not append: its beats must not keep the run from being found unattended."""
    async with open_bus() as bus, AsyncExitStack() as old:
        leases, lost = await leases_of(bus), asyncio.Event()
        await old.enter_async_context(leases.held(run_id, "owner-1", 1, on_lost=lost.set))
        await held_in(leases, run_id, 1)
        async with leases.held(run_id, "owner-2", 2):
            async with asyncio.timeout(20.0):
                await lost.wait()
            await held_in(leases, run_id, 2)
            freeze(run_id)
        await held_in(leases, run_id, None, LEASE_SECONDS + 5.0)


def command(run_id: str, name: str, body: RunCommandBody | None = None) -> RunCommand:
    return RunCommand(
        command_id=f"{run_id}-{name}", run_id=run_id, principal=Principal(), body=body or StopRun(reason=name)
    )


async def commands_of(bus: Bus) -> CommandLog:
    commands = CommandLog(bus, SystemClock())
    await commands.declare()
    return commands


async def test_commands_keep_their_order_and_come_once(open_bus: OpenBus, run_id: str) -> None:
    async with open_bus() as bus:
        commands = await commands_of(bus)
        assert await commands.read(run_id) == []
        for number in range(300):
            await commands.store(command(run_id, f"{number:03d}"))
        await commands.store(command(run_id, "299"))
        await commands.store(command(f"{run_id}x", "other"))
        read = await commands.read(run_id)
        assert [numbered.command.command_id for numbered in read] == [f"{run_id}-{n:03d}" for n in range(300)]
        assert await commands.read(run_id, after_sequence=read[297].sequence) == read[298:]
        await commands.forget(run_id)
        assert await commands.read(run_id) == []


async def test_commands_are_followed_as_they_come(open_bus: OpenBus, run_id: str) -> None:
    async with open_bus() as bus, open_bus() as other:
        commands, sender = await commands_of(bus), await commands_of(other)
        await sender.store(command(run_id, "before"))
        async with aclosing(commands.follow(run_id)) as following, asyncio.timeout(10.0):
            assert (await anext(following)).command.command_id == f"{run_id}-before"
            steer = SteerRun(message=BlobRef(key="sha256/" + "a" * 64, size_bytes=1))
            for number in range(3):
                waiting = asyncio.create_task(anext(following))
                await asyncio.sleep(0.01)
                await sender.store(command(run_id, f"{number}", steer))
                async with asyncio.timeout(1.0):
                    numbered = await waiting
                assert numbered.command == command(run_id, f"{number}", steer)


def test_commands_are_taken_in_order_also_where_one_changed_nothing() -> None:
    """A resume of a running run leaves no event: a later owner must not apply it after the pause that followed."""
    known = [NumberedCommand(sequence=n, command=command("run-a", name)) for n, name in enumerate("abcd", 5)]
    assert untaken(known, {"run-a-b"}) == known[2:]
    assert untaken(known, set()) == known
    assert untaken(known, {"run-a-d", "elsewhere"}) == []
