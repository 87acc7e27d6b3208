"""The upstream service on a real broker, with a real ingest: what a gateway hears, and what an endpoint is sent."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas import names
from schemas.chat import ChatDelta, ChatFinished, ChatItem, ChatRequest, MediaPart, Message, Sampling, TextPart
from schemas.codec import decode, encode
from schemas.media import MediaManifest
from schemas.request import RequestContext
from services.ingest.app import app as ingest
from services.ingest.config import IngestConfig
from services.upstream.app import app as upstream
from services.upstream.config import UpstreamConfig
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.interface import Bus
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from shared.errors import BadInput, MoontideError
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.endpoints.scripted import Script, ScriptedEndpoint, serving
from tests.unit.ingest.clips import write_clip

MODEL = "Scripted Model 1.0"


class Stack:
    """Services on one broker, and a caller of theirs."""

    def __init__(self, broker: Broker, folder: Path, stack: AsyncExitStack) -> None:
        self._config = broker.config
        self._folder = folder
        self._stack = stack
        self.blobs = BlobStore.open((folder / "blobs").as_uri())
        self.bus: Any = None

    async def start(self, name: str, app: Any, config: Any) -> None:
        bus = await self.connect(name)
        telemetry = Telemetry(service=name, instance=bus.instance, bus=bus)
        await self._stack.enter_async_context(telemetry.running())
        process = Process(name=name, bus=bus, blobs=self.blobs, telemetry=telemetry)
        await self._stack.enter_async_context(app(config, process))

    async def connect(self, name: str) -> Bus:
        return await self._stack.enter_async_context(connect(self._config, name))

    async def media(self, path: Path, kind: Any = "video") -> MediaPart:
        data = await asyncio.to_thread(path.read_bytes)
        return MediaPart(kind=kind, source=await self.blobs.put(data), name=path.name)

    async def ask(self, *content: Any, resume: list[bytes] | None = None, **fields: Any) -> tuple[str, ChatFinished]:
        parts = tuple(TextPart(text=part) if isinstance(part, str) else part for part in content)
        message = encode(Message(role="user", content=parts))
        context = RequestContext(request_id="r1", deadline_unix_seconds=time.time() + 60)
        held = resume if resume is not None else []

        def body() -> ChatRequest:
            return ChatRequest(model=MODEL, messages=(message,), resume=b"".join(held), **fields)

        text, finished = "", None
        async for item in follow(
            self.bus, SystemClock(), CallTarget(subject=names.chat(MODEL), context=context), body, ChatItem
        ):
            if isinstance(item, ChatDelta):
                text += item.content
                held.append(item.resume)
            else:
                finished = item
        assert finished is not None
        return text, finished


@asynccontextmanager
async def serving_stack(
    broker: Broker, folder: Path, script: Script, *, media: bool = False, **options: Any
) -> AsyncIterator[tuple[Stack, ScriptedEndpoint]]:
    async with serving(script) as endpoint, AsyncExitStack() as exits:
        stack = Stack(broker, folder, exits)
        if media:
            await stack.start("ingest", ingest, IngestConfig(workers=1, scratch_directory=folder / "scratch"))
        await stack.start("upstream", upstream, UpstreamConfig(url=endpoint.url, model=MODEL, **options))
        stack.bus = await stack.connect("caller")
        yield stack, endpoint


async def test_it_says_what_it_cannot_promise_and_answers(broker: Broker, tmp_path: Path) -> None:
    async with serving_stack(broker, tmp_path, Script()) as (stack, _):
        (info,) = await stack.bus.discover(names.SERVICE_UPSTREAM)
        text, finished = await stack.ask("hello")
    assert info.metadata["model"] == MODEL
    assert info.metadata["context_length"] == "32768"
    assert [info.metadata[name] for name in ("resumable", "deterministic", "grammar", "video")] == ["false"] * 3 + [
        "true"
    ]
    assert text == "You said “hello” and sent 0 images and 0 videos. — ✓ done 🎞"
    assert finished.finish_reason == "stop"


async def test_a_broken_answer_ends_at_once_and_is_not_tried_eight_times(broker: Broker, tmp_path: Path) -> None:
    async with serving_stack(broker, tmp_path, Script(defects=frozenset(("dies_midstream",)))) as (stack, endpoint):
        with pytest.raises(MoontideError, match="cannot be continued"):
            await stack.ask("hello")
    assert len(endpoint.requests) == 1


async def test_a_caller_that_lost_its_callee_gets_the_rest_or_a_clear_no(broker: Broker, tmp_path: Path) -> None:
    async with serving_stack(broker, tmp_path, Script(token_seconds=0.005)) as (stack, _):
        held: list[bytes] = []
        repeatable = Sampling(temperature=0.0, seed=3)
        whole, _ = await stack.ask("hello", resume=held, sampling=repeatable)
        rest, finished = await stack.ask("hello", resume=held[:-1], sampling=repeatable)
        assert whole.endswith(rest)
        assert 0 < len(rest) < len(whole)
        assert finished.usage.completion_tokens > 10
        held = []
        await stack.ask("hello", resume=held)
        with pytest.raises(MoontideError, match="not resumable"):
            await stack.ask("hello", resume=held)


async def test_a_video_reaches_an_endpoint_that_takes_images_only(broker: Broker, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_clip(clip)
    options = {"media": True, "max_frames": 3}
    async with serving_stack(broker, tmp_path, Script(defects=frozenset(("refuses_video",))), **options) as (
        stack,
        endpoint,
    ):
        text, finished = await stack.ask(await stack.media(clip), "what?")
        (summary,) = finished.media
        seen = decode(await stack.blobs.get(summary.manifest), MediaManifest)
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video")
        with pytest.raises(BadInput, match=r"broken\.mp4"):
            await stack.ask(await stack.media(broken), "what?")
    check_frames(endpoint.requests[1]["messages"][0]["content"], seen)
    assert "sent 3 images" in text
    assert finished.timings.ingest_seconds > 0
    assert len(endpoint.requests) == 2


async def test_the_reference_clip_within_the_usual_bounds(
    broker: Broker, tmp_path: Path, media_directory: Path
) -> None:
    async with serving_stack(broker, tmp_path, Script(), media=True, video="frames") as (stack, endpoint):
        _, finished = await stack.ask(await stack.media(media_directory / "nasa_13013.mp4"), "what happens?")
        (summary,) = finished.media
        seen = decode(await stack.blobs.get(summary.manifest), MediaManifest)
    assert summary.sampled_frames == 26
    check_frames(endpoint.requests[0]["messages"][0]["content"], seen)


def check_frames(content: list[dict[str, Any]], seen: MediaManifest) -> None:
    """Each picture stands behind its own time, all of them in order."""
    pictures = [place for place, part in enumerate(content) if part["type"] == "image_url"]
    assert len(pictures) == len(seen.frames)
    assert [frame.timestamp_seconds for frame in seen.frames] == sorted(
        frame.timestamp_seconds for frame in seen.frames
    )
    for place, frame in zip(pictures, seen.frames, strict=True):
        hours, minutes, seconds = content[place - 1]["text"].strip("[]").split(":")
        told = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        assert told == pytest.approx(frame.timestamp_seconds, abs=0.0011)
        data = base64.b64decode(content[place]["image_url"]["url"].partition("base64,")[2])
        assert len(data) == frame.jpeg.size_bytes
