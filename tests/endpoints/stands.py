"""What stands around the upstream service in these tests: spans, blobs and ingest, in memory.

The real ones have tests of their own; here every text that would leave the process is kept, to be searched.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas import names
from schemas.blobs import BlobRef, Payload
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, Message, Sampling, TextPart, ToolCall
from schemas.codec import decode, encode
from schemas.media import MediaFailed, MediaJob, MediaManifest, MediaPrepared, MediaProgress
from schemas.request import RequestContext
from services.upstream import config as settings
from services.upstream.announcement import identify
from services.upstream.config import UpstreamConfig
from services.upstream.endpoint import Endpoint
from services.upstream.handlers import AnswerChat, answering
from shared.clock import SystemClock
from shared.errors import NotFound


class Blobs:
    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    async def put(self, data: bytes) -> BlobRef:
        key = f"sha256/{hashlib.sha256(data).hexdigest()}"
        self._data[key] = data
        return BlobRef(key=key, size_bytes=len(data))

    async def get(self, ref: BlobRef) -> bytes:
        if ref.key not in self._data:
            raise NotFound("blob.not_found", "no such blob")
        return self._data[ref.key]

    async def resolve(self, payload: Payload) -> bytes:
        return payload if isinstance(payload, bytes) else await self.get(payload)


@dataclass
class Span:
    name: str
    attributes: dict[str, Any]
    error: str = ""
    traceparent: str = "00-11111111111111111111111111111111-2222222222222222-01"

    def set_attribute(self, name: str, value: Any) -> None:
        self.attributes[name] = value


@dataclass
class Spans:
    """Keeps every span with all that was said in it."""

    all: list[Span] = field(default_factory=list)

    @contextmanager
    def span(
        self, name: str, *, parent: str | None = None, kind: str = "internal", attributes: dict[str, Any] | None = None
    ) -> Iterator[Span]:
        span = Span(name, dict(attributes or {}))
        self.all.append(span)
        try:
            yield span
        except BaseException as error:
            span.error = f"{error!r} {error.__cause__!r}"
            raise


class Outcomes:
    """A subscription."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(64)

    async def next(self, timeout_seconds: float) -> bytes | None:
        try:
            return await asyncio.wait_for(self.queue.get(), timeout_seconds)
        except TimeoutError:
            return None

    async def close(self) -> None:
        return


class Ingest:
    """The bus as far as media go, with an ingest behind it that knows its answers."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._outcomes: dict[str, Outcomes] = {}
        self.manifests: dict[str, MediaManifest] = {}
        """By name of the input."""
        self.failures: dict[str, Any] = {}
        self.jobs: list[MediaJob] = []
        self.silent = False

    async def subscribe(self, subject: str, *, queue: str = "", max_pending: int = 4096) -> Outcomes:
        return self._outcomes.setdefault(subject, Outcomes())

    async def enqueue(self, subject: str, data: bytes, *, message_id: str) -> None:
        job = decode(data, MediaJob)
        self.jobs.append(job)
        if self.silent:
            return
        answers = self._outcomes[names.media_outcome(job.job_id)].queue
        answers.put_nowait(encode(MediaProgress(job_id=job.job_id, stage="decoding")))
        if job.name in self.failures:
            answers.put_nowait(encode(MediaFailed(job_id=job.job_id, failure=self.failures[job.name])))
            return
        manifest = self.manifests[job.name]
        if job.options.max_frames is not None:
            manifest = msgspec.structs.replace(manifest, frames=manifest.frames[: job.options.max_frames])
        answers.put_nowait(encode(MediaPrepared(job_id=job.job_id, manifest=await self._blobs.put(encode(manifest)))))


@dataclass
class Heard:
    """The writer of a call, and what it was given."""

    deltas: list[ChatDelta] = field(default_factory=list)
    finished: ChatFinished | None = None

    async def send(self, item: Any) -> None:
        assert self.finished is None, "nothing may follow the end"
        if isinstance(item, ChatFinished):
            self.finished = item
        else:
            assert item.resume, "every piece can be kept"
            self.deltas.append(item)

    @property
    def content(self) -> str:
        return "".join(delta.content for delta in self.deltas)

    @property
    def reasoning(self) -> str:
        return "".join(delta.reasoning for delta in self.deltas)

    @property
    def calls(self) -> list[ToolCall]:
        parts: dict[int, list[str]] = {}
        for call in (call for delta in self.deltas for call in delta.tool_calls):
            entry = parts.setdefault(call.index, ["", "", ""])
            entry[0], entry[1], entry[2] = entry[0] + call.id, entry[1] + call.name, entry[2] + call.arguments
        return [ToolCall(id=one, name=name, arguments=text) for one, name, text in parts.values()]

    @property
    def resume(self) -> bytes:
        return b"".join(delta.resume for delta in self.deltas)


@dataclass
class Stand:
    """The service's handler in front of one endpoint."""

    handler: AnswerChat
    blobs: Blobs
    ingest: Ingest
    spans: Spans

    async def ask(self, chat: ChatRequest | None = None, *, seconds: float = 20.0) -> Heard:
        heard = Heard()
        self.handler.check(context(seconds), chat or request())
        await self.handler.handle(context(seconds), chat or request(), heard)
        return heard


@dataclass(frozen=True)
class Surroundings:
    """What a process gives its service."""

    bus: Any
    blobs: Any
    telemetry: Any
    clock: Any


@asynccontextmanager
async def stand(url: str, **options: Any) -> AsyncIterator[Stand]:
    """``options``: fields of UpstreamConfig; times are short unless given."""
    quick = {"idle_seconds": 1.0, "first_token_seconds": 1.0, "total_seconds": 5.0, "read_seconds": 1.0}
    (config,) = settings.endpoints(UpstreamConfig(**{"url": url, "media_seconds": 5.0, **quick, **options}))
    blobs, spans = Blobs(), Spans()
    ingest = Ingest(blobs)
    async with Endpoint.open(config) as endpoint:
        config, listed = await identify(config, endpoint)
        around = Surroundings(ingest, blobs, spans, SystemClock())
        yield Stand(answering(config, listed, endpoint, around), blobs, ingest, spans)


def context(seconds: float = 20.0) -> RequestContext:
    return RequestContext(request_id="r1", deadline_unix_seconds=time.time() + seconds)


def user(*content: Any) -> bytes:
    parts = tuple(TextPart(text=part) if isinstance(part, str) else part for part in content)
    return encode(Message(role="user", content=parts))


def request(*messages: bytes, tools: Any = None, sampling: Sampling | None = None, **fields: Any) -> ChatRequest:
    return ChatRequest(
        model="scripted-model",
        messages=messages or (user("hello"),),
        tools=msgspec.json.encode(tools) if tools is not None else b"",
        sampling=sampling or Sampling(),
        **fields,
    )
