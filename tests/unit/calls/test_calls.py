"""Calls between a caller and callees on the fake bus, in virtual time: whatever the bus does and whoever dies, the
assembled answer equals the sent one, and every way to end is seen on both sides."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from schemas import names
from schemas.calls import CallOpened
from schemas.codec import decode, encode, raw
from schemas.failure import Failure
from schemas.request import RequestContext
from shared.bus.fake import FakeBroker, FakeBus
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget, CallWriter
from shared.calls.serve import serve
from shared.errors import BadInput, Busy, Cancelled, DeadlineExceeded, Internal, MoontideError, Unavailable
from tests import virtual_time
from tests.virtual_time import VirtualClock

SUBJECT = names.generate("moonlet")
SERVICE = names.SERVICE_ENGINE


class Wanted(msgspec.Struct, frozen=True):
    """Count from ``start``."""

    start: int
    count: int = 30


class Number(msgspec.Struct, frozen=True):
    value: int


@dataclass
class Callee:
    """Counts, one number every ``item_seconds``, and remembers how its calls ended."""

    item_seconds: float = 0.05
    active: int = 0
    started: int = 0
    endings: list[str] = field(default_factory=list)

    async def __call__(self, context: RequestContext, body: Wanted, out: CallWriter) -> None:
        self.active += 1
        self.started += 1
        ending = "failed"
        try:
            for value in range(body.start, body.count):
                await asyncio.sleep(self.item_seconds)
                await out.send(Number(value))
            ending = "done"
        except (asyncio.CancelledError, Cancelled):
            ending = "cancelled"
            raise
        finally:
            self.active -= 1
            self.endings.append(ending)


Handler = Callable[[RequestContext, Any, CallWriter], Awaitable[None]]


@asynccontextmanager
async def serving(bus: FakeBus, handler: Handler, **options: Any) -> AsyncIterator[str]:
    settings = {"max_calls": 8, "version": "1.0.0", "body_type": Wanted, **options}
    async with serve(bus, VirtualClock(), name=SERVICE, subject=SUBJECT, handler=handler, **settings) as instance:
        yield instance


def target(seconds: float = 600.0, **policy: Any) -> CallTarget:
    deadline = VirtualClock().unix_seconds() + seconds
    context = RequestContext(request_id="request", deadline_unix_seconds=deadline)
    return CallTarget(subject=SUBJECT, context=context, policy=CallPolicy(**policy))


async def collect(bus: FakeBus, to: CallTarget, count: int = 30, got: list[int] | None = None) -> list[int]:
    """The whole answer, resumed from what has been received."""
    received = [] if got is None else got
    async for item in follow(bus, VirtualClock(), to, lambda: Wanted(len(received), count), Number):
        received.append(item.value)
    return received


@pytest.mark.parametrize("block", range(4))
def test_the_assembled_stream_equals_the_sent_one_under_faults_and_deaths(block: int) -> None:
    async def scenario(seed: int) -> None:
        chance = random.Random(seed)
        broker = FakeBroker(
            seed, duplicate=chance.uniform(0, 0.3), delay=chance.uniform(0, 0.3), drop=chance.uniform(0, 0.08)
        )
        buses = [broker.bus("engine") for _ in range(4)]
        async with AsyncExitStack() as stack:
            for bus in buses:
                await stack.enter_async_context(serving(bus, Callee()))
            for bus in buses[1:]:
                asyncio.get_running_loop().call_later(chance.uniform(0.0, 4.0), bus.kill)
            to = target(attempts=60, recovery_seconds=300.0)
            assert await collect(broker.bus("caller"), to) == list(range(30)), f"seed {seed}"

    for seed in range(block * 25, block * 25 + 25):
        virtual_time.run(scenario(seed))


def test_an_undisturbed_call_is_one_attempt() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee()
        async with serving(broker.bus("engine"), callee):
            assert await collect(broker.bus("caller"), target()) == list(range(30))
        assert (callee.started, callee.endings) == (1, ["done"])

    virtual_time.run(scenario())


def test_long_silent_work_is_no_silence() -> None:
    """A prefill of minutes sends nothing but beats."""

    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee(item_seconds=300.0)
        async with serving(broker.bus("engine"), callee):
            assert await collect(broker.bus("caller"), target(3000.0), count=2) == [0, 1]
        assert callee.started == 1

    virtual_time.run(scenario())


def test_closing_the_iterator_cancels_the_handler() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee()
        async with serving(broker.bus("engine"), callee):
            items = follow(broker.bus("caller"), VirtualClock(), target(), lambda: Wanted(0), Number)
            async with aclosing(items):
                assert await anext(items) == Number(0)
                assert callee.active == 1
            await asyncio.sleep(0.1)
            assert (callee.active, callee.endings) == (0, ["cancelled"])

    virtual_time.run(scenario())


def test_a_vanished_caller_is_noticed_by_its_silence() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee(item_seconds=1000.0)
        caller = broker.bus("caller")
        async with serving(broker.bus("engine"), callee):
            calling = asyncio.create_task(collect(caller, target()))
            await asyncio.sleep(1.0)
            assert callee.active == 1
            caller.kill()
            await asyncio.sleep(3.0)
            assert (callee.active, callee.endings) == (0, ["cancelled"])
            calling.cancel()

    virtual_time.run(scenario())


def test_a_vanished_callee_is_replaced_within_seconds() -> None:
    async def scenario() -> None:
        broker, first, second = FakeBroker(1), Callee(), Callee()
        dying = broker.bus("engine")
        got: list[int] = []
        async with serving(dying, first):
            calling = asyncio.create_task(collect(broker.bus("caller"), target(), got=got))
            await asyncio.sleep(0.52)
            dying.kill()
            killed_at = VirtualClock().monotonic_seconds()
            async with serving(broker.bus("engine"), second):
                assert await calling == list(range(30))
        assert second.started == 1
        assert VirtualClock().monotonic_seconds() - killed_at < 2.0 + 30 * 0.05 + 1.0

    virtual_time.run(scenario())


def test_the_deadline_ends_both_sides() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee(item_seconds=1000.0)
        async with serving(broker.bus("engine"), callee):
            with pytest.raises(DeadlineExceeded):
                await collect(broker.bus("caller"), target(5.0))
            assert VirtualClock().monotonic_seconds() == pytest.approx(5.0, abs=0.1)
            await asyncio.sleep(0.1)
            assert callee.endings == ["cancelled"]

    virtual_time.run(scenario())


def test_a_deadline_passes_while_nobody_listens() -> None:
    async def scenario() -> None:
        with pytest.raises(DeadlineExceeded):
            await collect(FakeBroker(1).bus("caller"), target(3.0))
        assert VirtualClock().monotonic_seconds() <= 3.0

    virtual_time.run(scenario())


def test_nobody_listening_is_told_at_once_when_asked_for() -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match="no service listens"):
            await collect(FakeBroker(1).bus("caller"), target(wait_for_first_responder=False))
        assert VirtualClock().monotonic_seconds() < 0.1

    virtual_time.run(scenario())


def test_a_service_that_starts_late_is_waited_for_but_not_for_ever() -> None:
    async def scenario() -> None:
        broker = FakeBroker(1)
        calling = asyncio.create_task(collect(broker.bus("caller"), target()))
        await asyncio.sleep(40.0)
        async with serving(broker.bus("engine"), Callee()):
            assert await calling == list(range(30))
        with pytest.raises(Unavailable, match="no service listens"):
            await collect(broker.bus("caller"), target(recovery_seconds=10.0))

    virtual_time.run(scenario())


def test_a_full_service_refuses_with_a_retry_after_and_is_waited_for() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee()
        async with serving(broker.bus("engine"), callee, max_calls=1):
            answers = await asyncio.gather(*(collect(broker.bus("caller"), target()) for _ in range(3)))
            assert answers == [list(range(30))] * 3
            assert callee.started == 3

            callee.item_seconds = 1000.0
            blocking = asyncio.create_task(collect(broker.bus("caller"), target()))
            await asyncio.sleep(0.1)
            with pytest.raises(Busy) as refusal:
                await collect(broker.bus("caller"), target(recovery_seconds=5.0))
            assert refusal.value.retry_after_seconds is not None
            blocking.cancel()

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadInput("engine.too_long", "too long", param="messages"), BadInput),
        (ValueError("a secret of the inside"), Internal),
    ],
)
def test_a_refusal_or_failure_that_cannot_be_helped_is_raised(error: Exception, expected: type[MoontideError]) -> None:
    calls = []

    async def failing(context: RequestContext, body: Wanted, out: CallWriter) -> None:
        calls.append(body)
        raise error

    def refusing(context: RequestContext, body: Wanted) -> None:
        raise error

    async def scenario(**options: Any) -> None:
        broker = FakeBroker(1)
        async with serving(broker.bus("engine"), failing, **options):
            with pytest.raises(expected) as caught:
                await collect(broker.bus("caller"), target())
            assert "secret" not in str(caught.value)

    virtual_time.run(scenario())
    assert len(calls) == 1
    virtual_time.run(scenario(check=refusing))
    assert len(calls) == 1


def test_retryable_failures_are_tried_again_a_bounded_number_of_times() -> None:
    tries = []

    async def failing(context: RequestContext, body: Wanted, out: CallWriter) -> None:
        tries.append(body)
        raise Unavailable("engine.shard_lost", "a shard is gone")

    async def scenario() -> None:
        broker = FakeBroker(1)
        async with serving(broker.bus("engine"), failing):
            with pytest.raises(Unavailable, match="a shard is gone"):
                await collect(broker.bus("caller"), target(attempts=5))

    virtual_time.run(scenario())
    assert len(tries) == 5


def test_a_draining_service_finishes_what_it_can_and_hands_over_the_rest() -> None:
    async def scenario() -> None:
        broker, stopping, staying = FakeBroker(1), Callee(), Callee()
        caller = broker.bus("caller")
        async with AsyncExitStack() as other:
            async with serving(broker.bus("engine"), stopping, drain_seconds=0.7):
                short = asyncio.create_task(collect(caller, target(), count=10))
                long = asyncio.create_task(collect(caller, target(), count=30))
                await asyncio.sleep(0.1)
                await other.enter_async_context(serving(broker.bus("engine"), staying))
            assert sorted(stopping.endings) == ["cancelled", "done"]
            assert await short == list(range(10))
            assert await long == list(range(30))
            assert staying.started == 1

    virtual_time.run(scenario())


def test_a_slow_reader_overflows_its_own_buffer_and_still_gets_everything() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee(item_seconds=0.0)
        count, got = 9000, []
        async with serving(broker.bus("engine"), callee):
            items = follow(broker.bus("caller"), VirtualClock(), target(), lambda: Wanted(len(got), count), Number)
            async for item in items:
                got.append(item.value)
                if len(got) % 1000 == 1:
                    await asyncio.sleep(30.0)
        assert got == list(range(count))
        assert callee.started > 1

    virtual_time.run(scenario())


def _opened(attempt_id: str = "attempt", late_by: float = -1.0, body: Any = Wanted(0)) -> bytes:  # noqa: B008
    clock = VirtualClock()
    context = RequestContext(request_id="request", deadline_unix_seconds=clock.unix_seconds() + 60.0)
    admit_until = clock.unix_seconds() - late_by
    return encode(
        CallOpened(
            attempt_id=attempt_id,
            attempt_number=1,
            context=context,
            admit_until_unix_seconds=admit_until,
            body=raw(body),
        )
    )


def test_admission_drops_what_is_late_doubled_or_malformed() -> None:
    async def scenario() -> None:
        broker, callee = FakeBroker(1), Callee(item_seconds=1000.0)
        caller = broker.bus("caller")
        async with serving(broker.bus("engine"), callee):
            late = decode(await caller.request(SUBJECT, _opened(late_by=0.5), 1.0), Failure)
            malformed = decode(await caller.request(SUBJECT, b"\xff", 1.0), Failure)
            misfit = decode(await caller.request(SUBJECT, _opened("misfit", body={"start": "x"}), 1.0), Failure)
            assert (late.code, malformed.code, misfit.code) == ("call.late", "call.malformed", "call.malformed")
            for _ in range(2):
                await caller.request(SUBJECT, _opened(), 1.0)
            await asyncio.sleep(0.1)
            assert callee.started == 1

    virtual_time.run(scenario())


def test_a_handler_that_ignores_its_cancellation_is_left_behind() -> None:
    async def stubborn(context: RequestContext, body: Wanted, out: CallWriter) -> None:
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError:
            with pytest.raises(Cancelled):
                await out.send(Number(1))
            await asyncio.sleep(1000.0)

    async def scenario() -> None:
        broker = FakeBroker(1)
        async with serving(broker.bus("engine"), stubborn, drain_seconds=0.0):
            with pytest.raises(DeadlineExceeded):
                await collect(broker.bus("caller"), target(1.0))
        assert VirtualClock().monotonic_seconds() < 20.0

    virtual_time.run(scenario())
