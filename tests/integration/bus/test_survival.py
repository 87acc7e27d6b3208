"""The bus outlives what happens to it: a stopped or frozen broker, killed workers, vanished streams, server errors."""

import asyncio
import logging
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.bus import link, streams
from shared.bus.broker import Broker
from shared.bus.config import OUTGOING_BYTES
from shared.bus.connection import BusConfig, NatsBus, connect
from shared.bus.interface import Job, WorkQueue
from shared.errors import Unauthorized, Unavailable
from tests.integration.process import coordinates, running
from tests.waiting import until


@pytest.fixture
async def own_broker(broker_directory: Path) -> AsyncIterator[Broker]:
    """A broker that the test may stop."""
    broker = Broker.prepare(broker_directory)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@pytest.fixture
def word() -> str:
    return f"t{secrets.token_hex(4)}"


async def test_everything_works_again_after_the_broker_was_stopped(own_broker: Broker, word: str) -> None:
    queue = WorkQueue(stream=word, subjects=(f"{word}.jobs.*",), durable="reader", ack_wait_seconds=1.0)
    jobs: list[bytes] = []
    events: list[bytes] = []

    async def echo(data: bytes) -> bytes:
        return data

    async def work(job: Job) -> None:
        jobs.append(job.data)

    async def read(batch: list[bytes]) -> None:
        events.extend(batch)

    async with connect(own_broker.config, "a") as caller, connect(own_broker.config, "b") as worker:
        await caller.declare_log(f"{word}log", (f"{word}.events.>",), max_bytes=1 << 20, max_age_seconds=600.0)
        subscription = await worker.subscribe(f"{word}.live")
        async with (
            worker.offer(word, {f"{word}.echo": echo}, version="1.0.0", metadata={}),
            worker.consume(queue, work, in_flight=2),
            worker.follow_log(f"{word}log", "reader", read),
        ):
            for round_number, data in enumerate((b"before", b"after", b"again")):
                if round_number:
                    await own_broker.stop()
                    await caller.publish(f"{word}.live", b"while away " + data)
                    await own_broker.start()
                await caller.flush()
                await worker.flush()
                await caller.enqueue(f"{word}.jobs.{round_number}", data, message_id=f"job-{round_number}")
                await caller.append(f"{word}.events.e", data, message_id=f"event-{round_number}")
                await caller.publish(f"{word}.live", data)
                assert await caller.request(f"{word}.echo", data, 2.0) == data
                assert len(await caller.discover(word)) == 1
                await until(lambda: data in jobs and data in events)  # noqa: B023 - within the round
                received = [await subscription.next(2.0)]
                if received[0] != data:  # what was published while the broker was away may arrive or be lost
                    received.append(await subscription.next(2.0))
                assert received[-1] == data
        assert jobs == events == [b"before", b"after", b"again"]


async def test_a_broker_that_falls_silent_is_noticed_within_seconds(broker_directory: Path) -> None:
    broker = Broker.prepare(broker_directory)
    await broker.start()
    process = broker._process
    assert process is not None
    try:
        async with connect(broker.config, "a") as bus:
            lost = bus._link.lost
            process.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(5.0):
                await lost.wait()
            process.send_signal(signal.SIGCONT)
            await bus.flush(10.0)
    finally:
        process.send_signal(signal.SIGCONT)
        await broker.stop()


async def test_what_is_published_while_disconnected_is_bounded(own_broker: Broker) -> None:
    async with connect(own_broker.config, "a") as bus:
        await own_broker.stop()
        await until(bus._link.lost.is_set)
        for _ in range(OUTGOING_BYTES // 500_000):
            await bus.publish("t.bulk", bytes(500_000))
        with pytest.raises(Unavailable) as full:
            await bus.publish("t.bulk", bytes(500_000))
        assert full.value.code == "bus.disconnected"


async def test_jobs_of_killed_workers_come_again_and_killers_are_parked_untouched(broker: Broker, word: str) -> None:
    arguments = (*coordinates(broker), word)
    async with connect(broker.config, "sender") as bus:
        await bus.declare(
            WorkQueue(stream=word, subjects=(f"{word}.*",), durable="reader", ack_wait_seconds=0.5, max_attempts=2)
        )
        await bus.enqueue(f"{word}.killer", b"", message_id=word)
        for attempt in ("1", "2"):
            async with running("tests.integration.participants.job_worker", *arguments) as worker:
                assert await worker.line() == ["took", f"{word}.killer", attempt]
        async with running("tests.integration.participants.job_worker", *arguments) as worker:
            assert await worker.line() == ["parked", f"{word}.killer", "3"]


async def test_a_long_job_is_renewed_and_not_given_to_another(broker: Broker, word: str) -> None:
    queue = WorkQueue(stream=word, subjects=(f"{word}.*",), durable="reader", ack_wait_seconds=0.3)
    attempts: list[int] = []

    async def work(job: Job) -> None:
        attempts.append(job.attempt_number)
        await asyncio.sleep(1.2)

    async with connect(broker.config, "a") as bus, connect(broker.config, "b") as other:
        async with bus.consume(queue, work, in_flight=2), other.consume(queue, work, in_flight=2):
            await bus.enqueue(f"{word}.long", b"", message_id=word)
            await until(lambda: attempts)
        assert attempts == [1]


async def test_a_deleted_stream_and_reader_are_made_again(broker: Broker, word: str) -> None:
    queue = WorkQueue(stream=word, subjects=(f"{word}.*",), durable="reader")
    done: list[bytes] = []

    async def work(job: Job) -> None:
        done.append(job.data)

    async with connect(broker.config, "a") as bus, bus.consume(queue, work, in_flight=1):
        await bus._link.streams.delete_consumer(word, "reader")
        await bus.enqueue(f"{word}.1", b"1", message_id=f"{word}-1")
        await until(lambda: done == [b"1"])
        await bus._link.streams.delete_stream(word)
        await until(lambda: done == [b"1"])
        while True:
            try:
                await bus.enqueue(f"{word}.2", b"2", message_id=f"{word}-2")
                break
            except Unavailable:
                continue
        await until(lambda: done == [b"1", b"2"])


async def test_a_wrong_password_is_refused_at_once_and_told_nowhere(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wrong").write_text("not-the-password")
    caplog.set_level(logging.DEBUG)
    config = BusConfig(nats_url=broker.url, user=broker.user, password_file=tmp_path / "wrong")
    with pytest.raises(Unauthorized) as refused:
        async with asyncio.timeout(5.0), connect(config, "a"):
            pass
    with pytest.raises(Unauthorized):
        async with connect(BusConfig(nats_url=broker.url), "a"):
            pass
    told = caplog.text + str(refused.value) + repr(config)
    assert "not-the-password" not in told
    assert broker.password_file.read_text() not in told


async def test_a_first_connection_waits_for_a_broker_that_starts_late_but_not_for_ever(broker_directory: Path) -> None:
    broker = Broker.prepare(broker_directory)
    config = BusConfig(nats_url=broker.url, user=broker.user, password_file=broker.password_file, connect_seconds=0.6)
    with pytest.raises(Unavailable) as missing:
        async with connect(config, "a"):
            pass
    assert missing.value.code == "bus.unreachable"
    starting = asyncio.get_running_loop().create_task(_start_after(broker, 0.4))
    async with connect(broker.config, "a") as bus:
        await bus.flush()
    await starting
    await broker.stop()


async def _start_after(broker: Broker, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await broker.start()


async def test_a_flush_that_was_given_up_does_not_harm_the_connection(broker: Broker, word: str) -> None:
    async with connect(broker.config, "a") as bus:
        subscription = await bus.subscribe(word)
        for _ in range(20):
            flushing = asyncio.create_task(bus.flush())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            flushing.cancel()
        await bus.publish(word, b"alive")
        assert await subscription.next(2.0) == b"alive"
        assert not bus._link.lost.is_set()


@asynccontextmanager
async def scripted_server(*errors: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Speaks enough NATS to accept a connection, then sends the next of ``errors``; collects what clients say."""
    said: list[bytes] = []
    pending = list(errors)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","headers":true,"max_payload":1048576}\r\n')
        while line := await reader.readline():
            said.append(line)
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            if line.startswith(b"SUB") and pending:
                writer.write(pending.pop())
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", said
    finally:
        server.close()


@pytest.mark.parametrize("text", [b"-ERR 'Slow Consumer'\r\n", b"-ERR 'User Authentication Expired'\r\n"])
async def test_an_error_of_the_server_means_reconnecting_and_not_the_end(text: bytes) -> None:
    async with scripted_server(text) as (url, said), connect(BusConfig(nats_url=url), "a") as bus:
        await bus._link.subscribe("t.live", queue="", max_pending=10)
        await until(lambda: sum(line.startswith(b"CONNECT") for line in said) == 2)
        await bus.flush()
        assert sum(line.startswith(b"SUB t.live") for line in said) == 2


async def test_replies_come_to_an_inbox_of_this_connection_only() -> None:
    async with scripted_server() as (url, said), connect(BusConfig(nats_url=url), "a") as bus:
        with pytest.raises(Unavailable):
            await bus.request("t.q", b"", 0.1)
        inboxes = [line for line in said if line.startswith(b"SUB _INBOX.")]
        assert inboxes
        assert all(line.startswith(f"SUB _INBOX.{bus.instance}.".encode()) for line in inboxes)


class Gate:
    """A proxy in front of the broker that can swallow everything the broker says."""

    def __init__(self, broker: Broker) -> None:
        self._port = int(broker.url.rsplit(":", 1)[1])
        self.swallowing = False

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._copy(reader, upstream_writer, never=True), self._copy(upstream_reader, writer, never=False)
        )

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, never: bool) -> None:
        while data := await reader.read(65536):
            if never or not self.swallowing:
                writer.write(data)
        writer.close()


@asynccontextmanager
async def through_gate(broker: Broker) -> AsyncIterator[tuple[Gate, NatsBus]]:
    gate = Gate(broker)
    server = await asyncio.start_server(gate.pipe, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = BusConfig(nats_url=url, user=broker.user, password_file=broker.password_file)
    try:
        async with connect(config, "gated") as bus:
            yield gate, bus
    finally:
        server.close()


@pytest.mark.parametrize("first_writer", ["we", "another"])
async def test_after_an_unknown_acknowledgement_the_tail_says_who_won(
    broker: Broker, word: str, first_writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STORE_SECONDS", 0.1)
    monkeypatch.setattr(streams, "STORE_RETRY_SECONDS", 0.01)
    subject = f"{word}.terminal"
    async with connect(broker.config, "another") as another, through_gate(broker) as (gate, bus):
        await another.declare_log(word, (f"{word}.>",), max_bytes=1 << 20, max_age_seconds=600.0)
        if first_writer == "another":
            assert await another.append(subject, b"theirs", message_id="theirs", expected_last_sequence=0)
        gate.swallowing = True
        asyncio.get_running_loop().call_later(0.4, lambda: setattr(gate, "swallowing", False))
        won = await bus.append(subject, b"ours", message_id="ours", expected_last_sequence=0)
        assert won == (first_writer == "we")
        assert await another.append(subject, b"x", message_id="x", expected_last_sequence=0) is False


async def test_readiness_of_timeouts_is_as_designed() -> None:
    """The defaults of the client library do not fit; these do."""
    async with scripted_server() as (url, _), connect(BusConfig(nats_url=url), "a") as bus:
        options = bus._link.client.options
        assert options["ping_interval"] * options["max_outstanding_pings"] <= 4.0
        assert options["max_reconnect_attempts"] == -1
        assert options["reconnect_time_wait"] <= 0.5
        assert bus._link.client._max_pending_size <= 16 * 1024 * 1024
        assert link.CLOSE_SECONDS <= 5.0
