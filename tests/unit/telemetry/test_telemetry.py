"""How span messages leave the process: order, beats, bounds, and a collector that does not answer."""

import asyncio
import http.server
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from schemas import names
from schemas.telemetry import ProcessBeat
from shared.errors import Unavailable
from shared.telemetry.outbox import Outbox
from shared.telemetry.recording import RecordingBus, RecordingTelemetry
from shared.telemetry.tracing import Telemetry


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what is awaited has no event)
            await asyncio.sleep(0.005)


async def test_a_start_is_published_before_the_message_that_carries_its_context() -> None:
    telemetry = RecordingTelemetry(service="gateway")
    async with telemetry.running():
        with telemetry.span("chat"), telemetry.span("call") as span:
            await telemetry.bus.publish("work", span.traceparent.encode())
        subjects = [subject for subject, _ in telemetry.bus.published]
    assert subjects[-1:] == ["work"]
    assert subjects.count(names.spans("gateway")) == 3  # the first beat and two starts


async def test_spans_leave_by_themselves_and_in_order() -> None:
    telemetry = RecordingTelemetry()
    async with telemetry.running():
        published = telemetry.bus.published
        with telemetry.span("outer"), telemetry.span("inner"):
            await until(lambda: len(published) >= 3)
    kinds = [getattr(message, "name", "beat") for message in telemetry.messages]
    assert kinds == ["beat", "outer", "inner", "inner", "outer", "beat"]


async def test_beats_come_every_second_and_the_last_one_says_goodbye() -> None:
    telemetry = RecordingTelemetry()
    async with telemetry.running():
        await until(lambda: len(telemetry.bus.published) == 3)
        with telemetry.span("last"):
            pass
    beats = [message for message in telemetry.messages if isinstance(message, ProcessBeat)]
    assert [beat.ending for beat in beats] == [False, False, False, True]
    assert telemetry.messages[-1] is not None
    assert isinstance(telemetry.messages[-1], ProcessBeat)
    seconds = (beats[2].time_unix_nanoseconds - beats[0].time_unix_nanoseconds) / 1e9
    assert 1.9 <= seconds < 4


def test_the_outbox_is_bounded_and_never_waits() -> None:
    outbox = Outbox("subject", max_messages=10)
    beat = ProcessBeat(service="s", instance="i", time_unix_nanoseconds=1)
    for _ in range(25):
        outbox.put(beat)
    assert (len(outbox), outbox.dropped) == (10, 15)
    assert len(outbox.drain()) == 10
    assert outbox.take_newest() is None


def test_threads_may_fill_the_outbox_while_it_is_drained() -> None:
    outbox = Outbox("subject")
    threads = [threading.Thread(target=_put, args=(outbox, f"thread-{number}", 500)) for number in range(4)]
    for thread in threads:
        thread.start()
    drained = 0
    while any(thread.is_alive() for thread in threads):
        drained += len(outbox.drain())
    assert drained + len(outbox.drain()) + outbox.dropped == 2000


def _put(outbox: Outbox, instance: str, count: int) -> None:
    for number in range(count):
        outbox.put(ProcessBeat(service="s", instance=instance, time_unix_nanoseconds=number))


class DeadBus(RecordingBus):
    async def publish(self, subject: str, data: bytes) -> None:
        raise Unavailable("bus.disconnected", "the broker is away")


async def test_a_bus_that_is_away_is_said_once_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry(service="gateway", instance="gateway-1", bus=DeadBus())
    with caplog.at_level(logging.WARNING):
        async with telemetry.running():
            for _ in range(3):
                with telemetry.span("chat"):
                    pass
                await telemetry.flush()
    assert [record.message for record in caplog.records].count("spans cannot be published") == 1


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    server.bodies = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_spans_reach_an_otlp_collector(collector: http.server.HTTPServer) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    telemetry = Telemetry(service="gateway", instance="gateway-1", bus=RecordingBus(), otlp_endpoint=endpoint)
    async with telemetry.running():
        with telemetry.span("chat") as span:
            pass
    ((path, body),) = collector.bodies  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    assert bytes.fromhex(span.trace_id) in body
    assert b"moontide-gateway" in body


async def test_a_collector_that_is_away_is_said_once_and_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    bus = RecordingBus()
    telemetry = Telemetry(service="gateway", instance="g-1", bus=bus, otlp_endpoint="http://127.0.0.1:9")
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        async with telemetry.running():
            for _ in range(1500):
                with telemetry.span("chat"):
                    pass
            assert time.monotonic() - begun < 2.0
    assert time.monotonic() - begun < 10.0
    assert len(caplog.records) == 1
