"""Calls between real processes over a real nats-server: killed, frozen and revived on either side, and with the broker
stopped in between, nothing is lost and nothing doubled."""

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from schemas import names
from schemas.request import RequestContext
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from shared.errors import DeadlineExceeded
from tests.integration.participants.counting import POLICY, Number, Wanted
from tests.integration.process import Child, coordinates, running

COUNT = 100
FROZEN_SECONDS = 1.5
assert 2 * POLICY.silence_seconds < FROZEN_SECONDS


@pytest.fixture
def word() -> str:
    return f"t{secrets.token_hex(4)}"


@asynccontextmanager
async def callee(broker: Broker, word: str) -> AsyncIterator[Child]:
    async with running("tests.integration.participants.callee", *coordinates(broker), word) as child:
        assert await child.line() == ["ready"]
        yield child


def target(word: str, seconds: float = 60.0) -> CallTarget:
    context = RequestContext(request_id="r", deadline_unix_seconds=time.time() + seconds)
    return CallTarget(subject=names.generate(word), context=context, policy=POLICY)


class Collected:
    """A call that is followed in this process, in the background."""

    def __init__(self, broker: Broker, to: CallTarget, count: int = COUNT) -> None:
        self.received: list[int] = []
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._collect(broker, to, count))

    async def _collect(self, broker: Broker, to: CallTarget, count: int) -> None:
        async with connect(broker.config, "caller") as bus:
            async for item in follow(bus, SystemClock(), to, lambda: Wanted(len(self.received), count), Number):
                self.received.append(item.value)
                self._arrived.set()

    async def reaches(self, count: int) -> None:
        async with asyncio.timeout(20.0):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def whole(self) -> list[int]:
        async with asyncio.timeout(30.0):
            await self._task
        return self.received


async def test_a_killed_callee_is_replaced_again_and_again(broker: Broker, word: str) -> None:
    async with AsyncExitStack() as stack:
        calling = Collected(broker, target(word))
        for round_number in range(3):
            child = await stack.enter_async_context(callee(broker, word))
            await calling.reaches((round_number + 1) * 20)
            await child.kill()
        await stack.enter_async_context(callee(broker, word))
        assert await calling.whole() == list(range(COUNT))


async def test_a_frozen_callee_is_replaced_and_its_revival_reaches_nobody(broker: Broker, word: str) -> None:
    async with callee(broker, word) as first:
        calling = Collected(broker, target(word))
        await calling.reaches(20)
        first.send_signal(signal.SIGSTOP)
        async with callee(broker, word) as second:
            await calling.reaches(50)
            first.send_signal(signal.SIGCONT)
            assert await calling.whole() == list(range(COUNT))
            assert (await second.line())[0] == "started"
        assert [await first.line(), await first.line()] == [["started", "0"], ["cancelled"]]


async def test_a_callee_that_was_only_frozen_serves_on(broker: Broker, word: str) -> None:
    async with callee(broker, word) as only:
        calling = Collected(broker, target(word))
        await calling.reaches(20)
        only.send_signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        only.send_signal(signal.SIGCONT)
        assert await calling.whole() == list(range(COUNT))


async def test_a_frozen_caller_gets_everything_once_when_it_revives(broker: Broker, word: str) -> None:
    async with callee(broker, word) as answering:
        arguments = (*coordinates(broker), word, str(COUNT))
        async with running("tests.integration.participants.caller", *arguments) as calling:
            lines = [await calling.line() for _ in range(20)]
            calling.send_signal(signal.SIGSTOP)
            assert [await answering.line(), await answering.line()] == [["started", "0"], ["cancelled"]]
            calling.send_signal(signal.SIGCONT)
            while lines[-1] not in ([], ["end"]):
                lines.append(await calling.line())
    assert lines == [*(["item", str(value)] for value in range(COUNT)), ["end"]]


async def test_a_killed_caller_is_noticed_and_its_call_cancelled(broker: Broker, word: str) -> None:
    async with callee(broker, word) as answering:
        arguments = (*coordinates(broker), word, str(COUNT))
        async with running("tests.integration.participants.caller", *arguments) as calling:
            assert await calling.line() == ["item", "0"]
            await calling.kill()
            killed_at = time.monotonic()
            assert [await answering.line(), await answering.line()] == [["started", "0"], ["cancelled"]]
            assert time.monotonic() - killed_at < POLICY.silence_seconds + 1.0
        async with running("tests.integration.participants.caller", *arguments) as revived:
            lines = [await revived.line() for _ in range(COUNT + 1)]
        assert lines == [*(["item", str(value)] for value in range(COUNT)), ["end"]]


async def test_cancelling_reaches_the_callee_at_once(broker: Broker, word: str) -> None:
    async with callee(broker, word) as answering, connect(broker.config, "caller") as bus:
        items = follow(bus, SystemClock(), target(word), lambda: Wanted(0, COUNT), Number)
        async with aclosing(items):
            assert await anext(items) == Number(0)
        assert [await answering.line(), await answering.line(0.5)] == [["started", "0"], ["cancelled"]]


async def test_the_deadline_ends_the_call_on_both_sides(broker: Broker, word: str) -> None:
    async with callee(broker, word) as answering:
        calling = Collected(broker, target(word, seconds=0.7), count=100_000)
        with pytest.raises(DeadlineExceeded):
            await calling.whole()
        assert [await answering.line(), await answering.line(1.0)] == [["started", "0"], ["cancelled"]]


async def test_a_draining_callee_hands_its_calls_over(broker: Broker, word: str) -> None:
    async with callee(broker, word) as leaving:
        calling = Collected(broker, target(word))
        await calling.reaches(10)
        async with callee(broker, word):
            leaving.send_signal(signal.SIGTERM)
            assert await calling.whole() == list(range(COUNT))
            assert await leaving.exit_code() == 0


async def test_a_call_goes_on_after_the_broker_was_stopped(broker_directory: Path, word: str) -> None:
    broker = Broker.prepare(broker_directory)
    await broker.start()
    try:
        async with callee(broker, word):
            calling = Collected(broker, target(word))
            for count in (20, 50):
                await calling.reaches(count)
                await broker.stop()
                await asyncio.sleep(2 * POLICY.silence_seconds)
                await broker.start()
            assert await calling.whole() == list(range(COUNT))
    finally:
        await broker.stop()
