"""The fake bus is as bad as it was asked to be, and equally bad each time."""

from shared.bus.fake import FakeBroker
from shared.bus.interface import Job, WorkQueue
from tests import virtual_time
from tests.waiting import until


async def _received(seed: int, **faults: float) -> list[bytes]:
    broker = FakeBroker(seed, **faults)
    subscription = await broker.bus("receiver").subscribe("a.>")
    sender = broker.bus("sender")
    for number in range(100):
        await sender.publish("a.b", b"%03d" % number)
    received = []
    while (data := await subscription.next(1.0)) is not None:
        received.append(data)
    return received


def test_without_faults_everything_arrives_once_in_order() -> None:
    assert virtual_time.run(_received(1)) == [b"%03d" % number for number in range(100)]


def test_faults_happen_and_follow_from_the_seed() -> None:
    doubled = virtual_time.run(_received(1, duplicate=0.2))
    delayed = virtual_time.run(_received(1, delay=0.2))
    dropped = virtual_time.run(_received(1, drop=0.2))
    assert 105 < len(doubled) < 140
    assert sorted(delayed) == [b"%03d" % number for number in range(100)] != delayed
    assert 60 < len(dropped) < 95
    assert virtual_time.run(_received(1, drop=0.2)) == dropped != virtual_time.run(_received(2, drop=0.2))


def test_jobs_come_again_when_an_acknowledgement_is_lost() -> None:
    async def scenario() -> list[tuple[str, int]]:
        broker, done = FakeBroker(3, duplicate=0.4), []
        queue = WorkQueue(stream="q", subjects=("q.*",), durable="reader", max_attempts=50)
        bus = broker.bus("a")

        async def work(job: Job) -> None:
            done.append((job.subject, job.attempt_number))

        async with bus.consume(queue, work, in_flight=2):
            for number in range(20):
                await bus.enqueue(f"q.{number}", b"", message_id=str(number))
            await until(lambda: not broker.streams["q"].messages)
        return done

    done = virtual_time.run(scenario())
    assert {subject for subject, _ in done} == {f"q.{number}" for number in range(20)}
    assert len(done) > 20
