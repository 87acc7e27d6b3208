"""What ``shared/bus/interface.py`` promises, on the fake and on a real nats-server."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from schemas import names
from schemas.codec import decode
from schemas.parked import ParkedJob
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.fake import FakeBroker
from shared.bus.interface import Bus, Job, WorkQueue
from shared.errors import BadInput, Busy, Unavailable
from tests.waiting import until

OpenBus = Callable[[str], AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["fake", "nats"])
def open_bus(request: pytest.FixtureRequest) -> OpenBus:
    if request.param == "nats":
        broker: Broker = request.getfixturevalue("broker")
        return lambda name: connect(broker.config, name)
    fake = FakeBroker(7)

    @asynccontextmanager
    async def open_fake(name: str) -> AsyncIterator[Bus]:
        yield fake.bus(name)

    return open_fake


@pytest.fixture
def word() -> str:
    """A name that no other test uses."""
    return f"t{secrets.token_hex(4)}"


def queue_of(word: str, **options: object) -> WorkQueue:
    settings = {"stream": word, "subjects": (f"{word}.*",), "durable": "reader", "ack_wait_seconds": 1.0, **options}
    return WorkQueue(**settings)  # type: ignore[arg-type]


async def test_what_is_sent_after_an_unconfirmed_subscription_finds_it(open_bus: OpenBus, word: str) -> None:
    """As calls use it: a request, and its answers on another subject."""
    async with open_bus("a") as caller, open_bus("b") as callee:

        async def answer(data: bytes) -> bytes:
            await callee.publish(f"{word}.{data.decode()}", data)
            return b"admitted"

        async with callee.offer(word, {f"{word}-ask": answer}, version="0.1.0", metadata={}):
            for number in range(50):
                answers = await caller.subscribe(f"{word}.{number}", confirmed=False)
                assert await caller.request(f"{word}-ask", b"%d" % number, 2.0) == b"admitted"
                assert await answers.next(2.0) == b"%d" % number
                await answers.close()


async def test_messages_arrive_in_order_at_every_subscriber_and_once_in_a_queue_group(
    open_bus: OpenBus, word: str
) -> None:
    async with open_bus("a") as sender, open_bus("b") as receiver:
        everything = await receiver.subscribe(f"{word}.>")
        group = [await receiver.subscribe(f"{word}.*", queue="g") for _ in range(2)]
        for number in range(20):
            await sender.publish(f"{word}.{number}", b"%d" % number)
        await sender.flush()
        assert [await everything.next(2.0) for _ in range(20)] == [b"%d" % number for number in range(20)]
        shared = [data for member in group for _ in range(20) if (data := await member.next(0.05)) is not None]
        assert sorted(shared) == sorted(b"%d" % number for number in range(20))


async def test_a_closed_subscription_ends_and_an_empty_one_waits(open_bus: OpenBus, word: str) -> None:
    async with open_bus("a") as bus:
        subscription = await bus.subscribe(word)
        assert await subscription.next(0.02) is None
        await bus.publish(word, b"1")

        async def first() -> bytes | None:
            async for data in subscription:
                return data
            return None

        assert await asyncio.wait_for(first(), 2.0) == b"1"
        reading = asyncio.create_task(first())
        await asyncio.sleep(0)
        await subscription.close()
        assert await asyncio.wait_for(reading, 2.0) is None


async def test_overflow_is_told_after_what_fitted(open_bus: OpenBus, word: str) -> None:
    async with open_bus("a") as sender, open_bus("b") as receiver:
        subscription = await receiver.subscribe(word, max_pending=10)
        beside = await receiver.subscribe(word)
        for number in range(50):
            await sender.publish(word, b"%d" % number)
        await sender.flush()
        assert [await beside.next(2.0) for _ in range(50)][-1] == b"49"
        assert [await subscription.next(2.0) for _ in range(10)] == [b"%d" % number for number in range(10)]
        with pytest.raises(Unavailable) as ended:
            await subscription.next(2.0)
        assert ended.value.code == "bus.overflow"
        await subscription.close()


async def test_requests_reach_one_instance_and_discovery_sees_all(open_bus: OpenBus, word: str) -> None:
    async def shout(data: bytes) -> bytes:
        return data.upper()

    async with open_bus("a") as caller, open_bus("b") as first, open_bus("c") as second:
        one = first.offer(word, {f"{word}.shout": shout}, version="1.0.0", metadata={"model": "moonlet"})
        two = second.offer(word, {f"{word}.shout": shout}, version="1.2.0", metadata={})
        async with one as one_id, two as two_id:
            assert await caller.request(f"{word}.shout", b"hi", 2.0) == b"HI"
            found = {info.id: info for info in await caller.discover(word)}
            assert set(found) == {one_id, two_id}
            assert (found[one_id].name, found[one_id].version) == (word, "1.0.0")
            assert found[one_id].metadata == {"model": "moonlet"}
        assert await caller.discover(word) == []


async def test_a_request_fails_at_once_without_responder_and_in_time_without_answer(
    open_bus: OpenBus, word: str
) -> None:
    released = asyncio.Event()

    async def slow(data: bytes) -> bytes:
        await released.wait()
        return data

    async def broken(data: bytes) -> bytes:
        raise RuntimeError("a detail of the inside")

    async with open_bus("a") as caller, open_bus("b") as callee:
        with pytest.raises(Unavailable) as nobody:
            await asyncio.wait_for(caller.request(word, b"", 30.0), 2.0)
        assert nobody.value.code == "bus.no_responder"
        async with callee.offer(word, {f"{word}.broken": broken}, version="1.0.0", metadata={}):
            with pytest.raises(Unavailable, match="could not answer"):
                await caller.request(f"{word}.broken", b"", 2.0)
        async with callee.offer(word, {f"{word}.slow": slow}, version="1.0.0", metadata={}):
            with pytest.raises(Unavailable) as late:
                await caller.request(f"{word}.slow", b"", 0.1)
            assert late.value.code == "bus.timeout"
            released.set()


async def test_what_waits_in_the_outbox_goes_first(open_bus: OpenBus, word: str) -> None:
    async with open_bus("a") as sender, open_bus("b") as receiver:
        subscription = await receiver.subscribe(f"{word}.>")
        waiting = [(f"{word}.span", b"span")]

        def drain() -> list[tuple[str, bytes]]:
            drained, waiting[:] = list(waiting), []
            return drained

        sender.set_outbox(drain)
        await sender.publish(f"{word}.message", b"message")
        await sender.flush()
        assert [await subscription.next(2.0), await subscription.next(2.0)] == [b"span", b"message"]


async def test_jobs_are_done_once_each_and_bounded_in_flight(open_bus: OpenBus, word: str) -> None:
    queue, done, running, peak = queue_of(word), [], set(), []

    async def work(job: Job) -> None:
        running.add(job.subject)
        peak.append(len(running))
        await asyncio.sleep(0.01)
        running.discard(job.subject)
        done.append(job.data)

    async with open_bus("a") as sender, open_bus("b") as worker:
        await sender.declare(queue)
        for number in range(12):
            await sender.enqueue(f"{word}.{number}", b"%d" % number, message_id=f"{word}-{number}")
        await sender.enqueue(f"{word}.0", b"0", message_id=f"{word}-0")
        async with worker.consume(queue, work, in_flight=3):
            await until(lambda: len(done) >= 12)
        assert sorted(done) == sorted(b"%d" % number for number in range(12))
        assert max(peak) == 3


async def test_a_full_queue_refuses_and_a_missing_one_is_unavailable(open_bus: OpenBus, word: str) -> None:
    async with open_bus("a") as bus:
        await bus.declare(queue_of(word, max_jobs=2))
        for number in range(2):
            await bus.enqueue(f"{word}.{number}", b"", message_id=f"{word}-{number}")
        with pytest.raises(Busy) as full:
            await bus.enqueue(f"{word}.2", b"", message_id=f"{word}-2")
        assert full.value.retry_after_seconds is not None
        with pytest.raises(Unavailable):
            await bus.enqueue(f"{word}missing.1", b"", message_id="1")


async def test_retryable_failures_come_again_and_others_are_parked_and_told(open_bus: OpenBus, word: str) -> None:
    queue = queue_of(word, max_attempts=3)
    seen: list[tuple[str, int]] = []
    told: list[tuple[str, str]] = []

    async def work(job: Job) -> None:
        kind = job.subject.rsplit(".", 1)[-1]
        seen.append((kind, job.attempt_number))
        if kind == "bad":
            raise BadInput("media.undecodable", "not a picture")
        if kind == "flaky" and job.attempt_number == 1:
            raise Unavailable("blobs.away", "no store", retry_after_seconds=0.05)
        if kind == "dead":
            raise Unavailable("blobs.away", "no store", retry_after_seconds=0.05)

    async def on_parked(job: Job, reason: str) -> None:
        told.append((job.subject.rsplit(".", 1)[-1], reason))

    async with open_bus("a") as bus:
        await bus.declare(queue)
        parked = await bus.subscribe(names.parked(word, "reader", "x").removesuffix("x") + "*")
        for kind in ("bad", "flaky", "dead"):
            await bus.enqueue(f"{word}.{kind}", kind.encode(), message_id=f"{word}-{kind}")
        async with bus.consume(queue, work, in_flight=1, on_parked=on_parked):
            await until(lambda: len(told) == 2 and ("flaky", 2) in seen)
        assert [attempt for kind, attempt in seen if kind == "dead"] == [1, 2, 3]
        assert [attempt for kind, attempt in seen if kind == "bad"] == [1]
        assert told[0] == ("bad", "media.undecodable: not a picture")
        assert told[1][0] == "dead"
        job = decode(await parked.next(2.0) or b"", ParkedJob)
        assert (job.subject, job.data, job.deliveries, job.stream) == (f"{word}.bad", b"bad", 1, word)
        assert decode(await parked.next(2.0) or b"", ParkedJob).deliveries == 3


async def test_drain_lets_a_running_job_finish_and_starts_no_other(open_bus: OpenBus, word: str) -> None:
    queue, started, done, go = queue_of(word), [], [], asyncio.Event()

    async def work(job: Job) -> None:
        started.append(job.data)
        await go.wait()
        done.append(job.data)

    async with open_bus("a") as bus:
        await bus.declare(queue)
        for number in range(3):
            await bus.enqueue(f"{word}.{number}", b"%d" % number, message_id=f"{word}-{number}")
        async with bus.consume(queue, work, in_flight=1):
            await until(lambda: started)
            asyncio.get_running_loop().call_later(0.1, go.set)
        assert started == done == [b"0"]
        async with bus.consume(queue, work, in_flight=1):
            await until(lambda: len(done) == 3)
        assert sorted(done) == [b"0", b"1", b"2"]


async def test_of_two_writers_with_the_same_expectation_one_wins(open_bus: OpenBus, word: str) -> None:
    async with open_bus("a") as first, open_bus("b") as second:
        await first.declare_log(word, (f"{word}.>",), max_bytes=1 << 20, max_age_seconds=600.0)
        subject = f"{word}.terminal.r1"
        won = await asyncio.gather(
            first.append(subject, b"finished", message_id="first", expected_last_sequence=0),
            second.append(subject, b"failed", message_id="second", expected_last_sequence=0),
        )
        assert sorted(won) == [False, True]
        again = await first.append(subject, b"finished", message_id="first", expected_last_sequence=0)
        assert again == won[0]
        assert await second.append(f"{word}.terminal.r2", b"finished", message_id="third", expected_last_sequence=0)


async def test_a_log_is_followed_in_order_from_where_its_reader_got_to(open_bus: OpenBus, word: str) -> None:
    seen: list[bytes] = []
    failures = [RuntimeError("once")]

    async def read(batch: list[bytes]) -> None:
        if failures:
            raise failures.pop()
        seen.extend(batch)

    async with open_bus("a") as bus:
        await bus.declare_log(word, (f"{word}.>",), max_bytes=1 << 20, max_age_seconds=600.0)
        for number in range(10):
            await bus.append(f"{word}.e", b"%d" % number, message_id=f"{word}-{number}")
        async with bus.follow_log(word, "reader", read, batch=4):
            await until(lambda: len(seen) == 10)
        for number in range(10, 20):
            await bus.publish(f"{word}.e", b"%d" % number)
        async with bus.follow_log(word, "reader", read, batch=4):
            await until(lambda: len(seen) == 20)
        assert seen == [b"%d" % number for number in range(20)]


async def test_a_log_keeps_the_newest_within_its_bound(open_bus: OpenBus, word: str) -> None:
    seen: list[bytes] = []

    async def read(batch: list[bytes]) -> None:
        seen.extend(batch)

    async with open_bus("a") as bus:
        await bus.declare_log(word, (f"{word}.>",), max_bytes=20_000, max_age_seconds=600.0)
        for number in range(60):
            await bus.append(f"{word}.e", b"%04d" % number + bytes(996), message_id=f"{word}-{number}")
        async with bus.follow_log(word, "reader", read):
            await until(lambda: seen and seen[-1][:4] == b"0059")
        assert 10 <= len(seen) <= 20


@pytest.mark.parametrize("volatile", [False, True])
async def test_a_log_is_kept_as_it_was_made(open_bus: OpenBus, word: str, volatile: bool) -> None:
    """A stack of an earlier version has made it otherwise: that is no reason not to start."""
    async with open_bus("a") as bus:
        for wanted in (volatile, not volatile):
            await bus.declare_log(word, (f"{word}.>",), max_bytes=1 << 20, max_age_seconds=600.0, volatile=wanted)
        assert await bus.append(f"{word}.one", b"x", message_id="1", expected_last_sequence=0)
        assert not await bus.append(f"{word}.one", b"y", message_id="2", expected_last_sequence=0)
