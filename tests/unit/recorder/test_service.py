"""The recorder between a log and its callers: what goes in as span messages comes out as one tree."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas import codec, names
from schemas.failure import Failure
from schemas.request import Principal, RequestContext
from schemas.telemetry import ATTR_REQUEST_ID, ATTR_TENANT, AttributeValue, Trace, TraceQuery
from services.recorder.config import RecorderConfig
from services.recorder.handlers import MAX_REPLY_BYTES, answer_trace, record
from services.recorder.store import SpanStore
from shared import config as configuration
from shared.errors import NotFound
from shared.telemetry.recording import RecordingTelemetry
from shared.telemetry.request import request_attributes

from .messages import beat, ended


class SetClock:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def unix_seconds(self) -> float:
        return self.seconds

    def monotonic_seconds(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class LogBus:
    """As much of a bus as the recorder uses: one log that it follows, and its endpoints."""

    def __init__(self) -> None:
        self.log: asyncio.Queue[bytes] = asyncio.Queue(100)
        self.declared: dict[str, tuple[str, ...]] = {}
        self.endpoints: Mapping[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.offered = ""

    async def declare_log(
        self, stream: str, subjects: tuple[str, ...], *, max_bytes: int, max_age_seconds: float, volatile: bool = False
    ) -> None:
        assert volatile, "spans are not worth waiting for a disk"
        assert max_bytes > 0 < max_age_seconds
        self.declared[stream] = subjects

    @asynccontextmanager
    async def follow_log(
        self, stream: str, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], *, batch: int = 256
    ) -> AsyncIterator[None]:
        assert stream in self.declared
        assert durable == names.DURABLE_RECORDER_SPANS
        task = asyncio.create_task(self._follow(handler))
        yield
        task.cancel()
        await asyncio.wait([task])

    async def _follow(self, handler: Callable[[list[bytes]], Awaitable[None]]) -> None:
        while True:
            await handler([await self.log.get()])
            self.log.task_done()

    @asynccontextmanager
    async def offer(
        self,
        name: str,
        endpoints: Mapping[str, Callable[[bytes], Awaitable[bytes]]],
        *,
        version: str,
        metadata: Mapping[str, str],
    ) -> AsyncIterator[str]:
        self.offered, self.endpoints = name, endpoints
        yield "id"
        self.endpoints = {}


@pytest.fixture
def config(tmp_path: Path) -> RecorderConfig:
    return RecorderConfig(database_path=tmp_path / "spans.sqlite")


async def test_spans_of_three_processes_are_one_tree_while_they_run(config: RecorderConfig) -> None:
    try:
        from services.recorder.app import app
    except ModuleNotFoundError as missing:  # parts of shared/ that the service shell needs
        pytest.skip(str(missing))
    bus, clock = LogBus(), SetClock(1e9)
    gateway, tokenizer, engine = (RecordingTelemetry(name, f"{name}-1") for name in ("gateway", "tokenizer", "engine"))
    async with app(config, SimpleNamespace(bus=bus, clock=clock)):  # type: ignore[arg-type]
        assert bus.declared == {names.STREAM_SPANS: (names.SPANS_ALL,)}
        assert bus.offered == names.SERVICE_RECORDER
        with (
            gateway.span("http", attributes={ATTR_REQUEST_ID: "req-1"}) as http,
            tokenizer.span("chat", parent=http.traceparent) as chat,
            engine.span("generate", parent=chat.traceparent),
        ):
            for _, data in gateway.drain() + tokenizer.drain() + engine.drain():
                await bus.log.put(data)
            await bus.log.join()
            answer = await bus.endpoints[names.SUBJECT_TRACE_GET](codec.encode(TraceQuery(id="req-1")))
        trace = codec.decode(answer, Trace)
    assert trace.trace_id == http.trace_id
    assert [(span.service, span.status) for span in trace.spans] == [
        ("gateway", "running"),
        ("tokenizer", "running"),
        ("engine", "running"),
    ]
    assert [span.parent_span_id for span in trace.spans] == ["", http.span_id, chat.span_id]


@pytest.fixture
def store(config: RecorderConfig) -> SpanStore:
    return SpanStore.open(config.database_path)


async def ask(store: SpanStore, clock: SetClock, id: str, tenant: str = "local") -> Trace | Failure:
    query = codec.encode(TraceQuery(id=id, principal=Principal(tenant=tenant)))
    return codec.decode(await answer_trace(store, clock, query), Trace | Failure)  # type: ignore[arg-type]


async def test_two_tenants_in_one_trace_see_their_own_spans(config: RecorderConfig, store: SpanStore) -> None:
    """A client says which trace its request belongs to, so it may say another one's, and its spans' ids too."""
    clock = SetClock(1000.0)
    gateway = RecordingTelemetry("gateway", "gateway-1")
    tokenizer = RecordingTelemetry("tokenizer", "tokenizer-1")
    owners: dict[str, AttributeValue] = {"acme": "req-1", "intruder": "req-2"}
    parent = ""
    for tenant, request_id in owners.items():
        attributes = {ATTR_REQUEST_ID: request_id, ATTR_TENANT: tenant}
        with gateway.span(f"http of {tenant}", parent=parent, attributes=attributes) as http:
            parent = parent or http.traceparent
            context = RequestContext(
                request_id=str(request_id), principal=Principal(tenant=tenant), deadline_unix_seconds=0.0
            )
            with (
                tokenizer.span(f"chat of {tenant}", parent=http.traceparent, attributes=request_attributes(context)),
                tokenizer.span(f"inside of {tenant}"),
            ):
                pass
    with gateway.span("of nobody", parent=parent):
        pass
    await record(store, config, clock, [data for _, data in gateway.drain() + tokenizer.drain()])
    for tenant, request_id in owners.items():
        trace = await ask(store, clock, http.trace_id, tenant)
        assert isinstance(trace, Trace)
        assert {span.name for span in trace.spans} == {f"{what} of {tenant}" for what in ("http", "chat", "inside")}
        assert isinstance(await ask(store, clock, str(request_id), tenant), Trace)
    everything = await ask(store, clock, http.trace_id)
    assert isinstance(everything, Trace)
    assert len(everything.spans) == 7
    foreign, unknown = [await ask(store, clock, id, "acme") for id in ("1" * 32, "2" * 32)]
    stranger = await ask(store, clock, http.trace_id, "stranger")
    for failure, id in ((foreign, "1" * 32), (unknown, "2" * 32), (stranger, http.trace_id)):
        assert failure == NotFound("trace.not_found", f"no trace is recorded for {id}", param="id").to_failure()
    store.close()


async def test_a_killed_process_has_lost_its_spans_and_a_thawed_one_has_them_back(
    config: RecorderConfig, store: SpanStore
) -> None:
    clock = SetClock(1000.0)
    engine = RecordingTelemetry("engine", "engine-1")
    with engine.span("generate") as span:
        await record(store, config, clock, [data for _, data in engine.drain()])
        statuses = []
        for seconds in (2.9, 0.2):
            clock.seconds += seconds
            trace = await ask(store, clock, span.trace_id)
            assert isinstance(trace, Trace)
            statuses.append(trace.spans[0].status)
        with engine.span("thawed"):
            await record(store, config, clock, [data for _, data in engine.drain()])
            trace = await ask(store, clock, span.trace_id)
            assert isinstance(trace, Trace)
            statuses.append(trace.spans[0].status)
    assert statuses == ["running", "lost", "running"]
    store.close()


async def test_what_nobody_can_read_stops_nobody(config: RecorderConfig, store: SpanStore) -> None:
    batch = [b"", b"\xff\x00", codec.encode({"type": "span.started"}), codec.encode(ended("a")), b"\xc1"]
    batch += [codec.encode(beat(at=10**10)), codec.encode(beat(at=-1))]
    await record(store, config, SetClock(1.0), batch)
    assert store.messages("a" * 32) == [ended("a")]
    store.close()


async def test_failures_are_answers(store: SpanStore) -> None:
    unknown = await ask(store, SetClock(1.0), "nothing")
    assert isinstance(unknown, Failure)
    assert (unknown.code, unknown.status) == ("trace.not_found", 404)
    bad = codec.decode(await answer_trace(store, SetClock(1.0), b"\xc1"), Failure)
    assert bad.status == 400
    store.close()
    gone = await ask(store, SetClock(1.0), "nothing")
    assert isinstance(gone, Failure)
    assert (gone.code, gone.status) == ("recorder.database", 503)


async def test_an_answer_fits_into_one_message(config: RecorderConfig, store: SpanStore) -> None:
    batch = [codec.encode(ended(f"s{n}", attributes={"text": "x" * 2000})) for n in range(600)]
    await record(store, config, SetClock(1.0), batch)
    answer = await answer_trace(store, SetClock(1.0), codec.encode(TraceQuery(id="a" * 32)))
    assert len(answer) <= MAX_REPLY_BYTES + 16
    trace = codec.decode(answer, Trace)
    assert len(trace.spans) + trace.omitted_spans == 600
    assert trace.omitted_spans > 100
    store.close()


async def test_old_traces_are_deleted_as_new_ones_come(config: RecorderConfig, store: SpanStore) -> None:
    clock = SetClock(1000.0)
    await record(store, config, clock, [codec.encode(ended("a", trace="1" * 32))])
    clock.seconds += config.max_age_seconds + 1
    await record(store, config, clock, [codec.encode(ended("a", trace="2" * 32))])
    assert [store.find(id) for id in ("1" * 32, "2" * 32)] == [None, "2" * 32]
    store.close()


def test_configuration_names_what_is_wrong() -> None:
    good = configuration.load(RecorderConfig, "RECORDER", {"MOONTIDE_RECORDER_DATABASE_PATH": "/data/spans"})
    assert good.database_path == Path("/data/spans")
    with pytest.raises(configuration.ConfigError):
        configuration.load(RecorderConfig, "RECORDER", {})
    environ = {"MOONTIDE_RECORDER_DATABASE_PATH": "x", "MOONTIDE_RECORDER_MAX_BYTES": "-1"}
    with pytest.raises(configuration.ConfigError):
        configuration.load(RecorderConfig, "RECORDER", environ)
