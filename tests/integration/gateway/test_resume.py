"""The gateway as a caller, with the real call protocol: when the callee dies the client sees a pause, not a gap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from schemas import codec, names
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, Usage
from schemas.events import CloudEvent
from schemas.request import RequestContext
from services.gateway.app import app
from services.gateway.config import GatewayConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.clock import SystemClock
from shared.service import Process
from shared.telemetry.tracing import Telemetry

TEXT = "The moon pulls the sea, and the sea keeps the time."


class Tokenizer:
    """Answers ``TEXT`` letter by letter behind what ``resume`` says; the first attempt stops in the middle."""

    def __init__(self) -> None:
        self.resumed_at: list[int] = []
        self.stuck = asyncio.Event()

    async def __call__(self, context: RequestContext, request: ChatRequest, out: CallWriter) -> None:
        assert isinstance(request.resume, bytes)
        self.resumed_at.append(len(request.resume))
        for position in range(len(request.resume), len(TEXT)):
            if position == 20 and len(self.resumed_at) == 1:
                self.stuck.set()
                await asyncio.Event().wait()
            await out.send(ChatDelta(content=TEXT[position], resume=b"x"))
        usage = Usage(prompt_tokens=3, completion_tokens=len(TEXT))
        await out.send(ChatFinished(finish_reason="stop", usage=usage))


@asynccontextmanager
async def gateway(broker: FakeBroker, folder: Path) -> AsyncIterator[str]:
    bus = broker.bus("gateway")
    telemetry = Telemetry(service="gateway", instance=bus.instance, bus=bus)
    blobs = BlobStore.open((folder / "blobs").as_uri())
    process = Process(name="gateway", bus=bus, blobs=blobs, telemetry=telemetry, clock=SystemClock())
    async with telemetry.running(), app(GatewayConfig(port=0, drain_seconds=0.2), process) as port:
        yield f"http://127.0.0.1:{port}/v1/chat/completions"


def offered(broker: FakeBroker, tokenizer: Tokenizer, stack: AsyncExitStack) -> Any:
    bus = broker.bus("tokenizer")
    serving = serve(
        bus,
        SystemClock(),
        name=names.SERVICE_TOKENIZER,
        subject=names.chat("tiny"),
        handler=tokenizer,
        body_type=ChatRequest,
        max_calls=4,
        version="1.0.0",
        metadata={"model": "tiny"},
        drain_seconds=0.1,
    )
    return bus, stack.enter_async_context(serving)


async def test_a_callee_that_dies_in_the_middle(tmp_path: Path) -> None:
    broker = FakeBroker(seed=7)
    tokenizer = Tokenizer()
    async with AsyncExitStack() as stack:
        bus, entering = offered(broker, tokenizer, stack)
        await entering
        url = await stack.enter_async_context(gateway(broker, tmp_path))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        body = {"model": "tiny", "messages": [{"role": "user", "content": "?"}]}
        asked = asyncio.create_task(http.post(url, json=body))
        async with asyncio.timeout(30):
            await tokenizer.stuck.wait()
            bus.kill()
            _, entering = offered(broker, tokenizer, stack)
            await entering
            answer = await (await asked).json()
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert tokenizer.resumed_at == [0, 20]
    events = [codec.decode_json(stored.data, CloudEvent) for stored in broker.streams[names.STREAM_EVENTS].messages]
    assert [event.type.rpartition(".")[2] for event in events] == ["accepted", "finished"]


async def test_without_a_responder_the_answer_is_503_at_once(tmp_path: Path) -> None:
    broker = FakeBroker(seed=7)
    async with (
        broker.bus("tokenizer").offer(names.SERVICE_TOKENIZER, {}, version="1.0.0", metadata={"model": "tiny"}),
        gateway(broker, tmp_path) as url,
        aiohttp.ClientSession() as http,
        asyncio.timeout(5),
    ):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "?"}]}
        for stream in (True, False):
            response = await http.post(url, json=body | {"stream": stream})
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "bus.no_responder"
