"""A real gateway on a free port, with the seeded fake bus behind it and a scripted answer in place of a tokenizer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from schemas import codec, names
from schemas.blobs import BlobRef
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, MediaSummary, Message, Timings, Usage
from schemas.events import CloudEvent
from schemas.request import RequestContext
from services.gateway.app import build, serving
from services.gateway.config import GatewayConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.bus.interface import Bus
from shared.calls.interface import CallTarget
from shared.clock import Clock, SystemClock
from shared.request_events import RequestEvents
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.endpoints.scripted_coordinator import ScriptedCoordinator, coordinating

MODEL = "tiny"
ACCEPTED = "dev.moontide.request.accepted"

FINISHED = ChatFinished(
    finish_reason="stop",
    usage=Usage(prompt_tokens=7, completion_tokens=5, media_tokens=588, cached_tokens=2, reasoning_tokens=3),
    timings=Timings(ingest_seconds=0.25, prefill_seconds=0.5, decode_seconds=0.125),
    media=(
        MediaSummary(
            name="clip.mp4",
            kind="video",
            width=320,
            height=180,
            duration_seconds=13.0,
            sampled_frames=26,
            chunks=7,
            media_tokens=588,
            manifest=BlobRef(key="sha256/" + "a" * 64, size_bytes=1),
        ),
    ),
    system_fingerprint="fp-1",
)
ANSWER: tuple[Any, ...] = (
    ChatDelta(reasoning="Let me ", resume=b"1"),
    ChatDelta(reasoning="see…", resume=b"2"),
    ChatDelta(content="A mö", resume=b"3"),
    ChatDelta(content='"on" 🌕\n', resume=b"4"),
    FINISHED,
)

Script = tuple[Any, ...]


def refusing(error: Exception) -> Script:
    return (error,)


@dataclass
class ScriptedAnswer:
    """Stands for ``shared.calls.follow``: yields items, raises errors, waits for events, and remembers its calls."""

    script: Script | Callable[[ChatRequest], Script] = ANSWER
    """The same for every call, or made for its request."""
    requests: list[ChatRequest] = field(default_factory=list)
    contexts: list[RequestContext] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    events_at_start: list[list[str]] = field(default_factory=list)
    event_types: Callable[[], list[str]] = list

    async def __call__(
        self, bus: Bus, clock: Clock, target: CallTarget, make_body: Callable[[], Any], item_type: Any
    ) -> AsyncGenerator[Any, None]:
        assert target.subject in (names.chat(MODEL), names.count(MODEL))
        assert not target.policy.wait_for_first_responder
        self.events_at_start.append(self.event_types())
        request = make_body()
        self.requests.append(request)
        self.contexts.append(target.context)
        try:
            for item in self.script(request) if callable(self.script) else self.script:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                else:
                    yield item
                    await asyncio.sleep(0)
        finally:
            self.closed.set()

    def messages(self, number: int = -1) -> list[Message]:
        request = self.requests[number]
        return [codec.decode(data, Message) for data in request.messages if isinstance(data, bytes)]


async def until(condition: Callable[[], bool]) -> None:
    """Returns once ``condition`` holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on the other side of a socket
            await asyncio.sleep(0.005)


@dataclass
class Stand:
    """The gateway under test and what is around it."""

    url: str
    broker: FakeBroker
    blobs: BlobStore
    answer: ScriptedAnswer
    http: aiohttp.ClientSession
    stop: Callable[[], Any]
    """Drains the gateway now."""
    coordinator: ScriptedCoordinator | None = None

    def events(self) -> list[CloudEvent]:
        stream = self.broker.streams[names.STREAM_EVENTS]
        return [codec.decode_json(stored.data, CloudEvent) for stored in stream.messages]

    async def terminal(self) -> CloudEvent:
        """The one terminal record of the one request, once it is there."""
        await until(lambda: self._terminals() != [])
        (record,) = self._terminals()
        return record

    def _terminals(self) -> list[CloudEvent]:
        return [event for event in self.events() if event.type != ACCEPTED]

    async def called(self) -> None:
        """Returns once a chat has been dispatched."""
        await until(lambda: self.answer.requests != [])

    async def chat(self, **body: Any) -> aiohttp.ClientResponse:
        """Posts a chat with defaults filled in."""
        full = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]} | body
        return await self.http.post(f"{self.url}/v1/chat/completions", json=full)


MakeGateway = Callable[..., AbstractAsyncContextManager[Stand]]


@pytest.fixture
def make_gateway(tmp_path: Path) -> MakeGateway:
    """``make_gateway(script=…, models=(…), metadata={…}, coordinator={…}, broker=…, clock=…, **config)``."""

    @asynccontextmanager
    async def make(
        *,
        script: Script | Callable[[ChatRequest], Script] = ANSWER,
        models: tuple[str, ...] = (MODEL,),
        metadata: dict[str, str] | None = None,
        coordinator: dict[str, Any] | None = None,
        broker: FakeBroker | None = None,
        clock: Clock | None = None,
        **config: Any,
    ) -> AsyncIterator[Stand]:
        broker = broker or FakeBroker(seed=1)
        bus = broker.bus("gateway")
        blobs = BlobStore.open((tmp_path / "blobs").as_uri())
        telemetry = Telemetry(service="gateway", instance=bus.instance, bus=bus)
        process = Process(name="gateway", bus=bus, blobs=blobs, telemetry=telemetry, clock=clock or SystemClock())
        settings = msgspec.structs.replace(GatewayConfig(port=0, drain_seconds=0.2), **config)
        answer = ScriptedAnswer(script=script)
        async with AsyncExitStack() as outer, AsyncExitStack() as running:
            for model in models:
                announced = {"model": model} | (metadata or {})
                offered = broker.bus("tokenizer").offer(
                    names.SERVICE_TOKENIZER, {}, version="1.0.0", metadata=announced
                )
                await outer.enter_async_context(offered)
            runs = None
            if coordinator is not None:
                runs = await outer.enter_async_context(coordinating(broker.bus("coordinator"), blobs, **coordinator))
            await outer.enter_async_context(telemetry.running())
            http = await outer.enter_async_context(aiohttp.ClientSession())
            port = await running.enter_async_context(serving(settings, process, answer))
            stand = Stand(f"http://127.0.0.1:{port}", broker, blobs, answer, http, running.aclose, runs)
            answer.event_types = lambda: [event.type for event in stand.events()]
            yield stand

    return make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> AsyncIterator[Stand]:
    async with make_gateway() as stand:
        yield stand


@pytest.fixture
async def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """(method, path) of everything that the gateway serves; without the patterns of path parameters."""
    bus = FakeBroker(seed=1).bus("gateway")
    telemetry = Telemetry(service="gateway", instance=bus.instance, bus=bus)
    process = Process(
        name="gateway",
        bus=bus,
        blobs=BlobStore.open((tmp_path / "blobs").as_uri()),
        telemetry=telemetry,
        clock=SystemClock(),
    )
    _, application = build(GatewayConfig(), process, RequestEvents(bus, process.clock, "gateway"), ScriptedAnswer())
    served = [(route.method, route.resource) for route in application.router.routes()]
    return {
        (method, resource.get_info().get("formatter") or resource.get_info()["path"])
        for method, resource in served
        if resource is not None and method != "HEAD"
    }
