"""A tokenizer service on the seeded fake bus, with a real blob store, a scripted engine and a scripted ingest."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import (
    ChatDelta,
    ChatFinished,
    ChatItem,
    ChatRequest,
    CountRequest,
    Message,
    TextPart,
    TokensCounted,
)
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.generation import GenerateRequest, GenerationFinished, Logprobs, TokensGenerated
from schemas.media import MediaChunk, MediaFailed, MediaJob, MediaKind, MediaManifest, MediaPrepared
from schemas.request import RequestContext
from services.tokenizer.app import app
from services.tokenizer.config import TokenizerConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.bus.interface import Job, WorkQueue
from shared.calls.follow import follow
from shared.calls.interface import CallTarget, CallWriter
from shared.calls.serve import serve
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.language.specials import tokenizer_config
from shared.language.vocabulary import Vocabulary, tiny_vocabulary
from shared.service import Process
from shared.telemetry.recording import RecordingTelemetry

MODEL = "tiny"
QUEUE = WorkQueue(stream=names.STREAM_MEDIA, subjects=(names.MEDIA_ALL,), durable=names.DURABLE_INGEST)
CLOCK = SystemClock()


def write_checkpoint(
    directory: Path,
    *,
    vision: bool = True,
    context: int = 4096,
    model_type: str = "kimi_k25",
    template: str | None = None,
    **generation: Any,
) -> Path:
    directory.mkdir(exist_ok=True)
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    text = {"max_position_embeddings": context, "vocab_size": 2048 + 256 + 8}
    config: dict[str, Any] = {"model_type": model_type, "text_config": text} | ({"vision_config": {}} if vision else {})
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text(json.dumps(generation))
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(2048)))
    (directory / "tiktoken.model").write_bytes(tiny_vocabulary())
    return directory


@dataclass
class ScriptedEngine:
    """Answers every generation with ``ids``, ``step`` at a time. ``deaths``: after how many ids each attempt dies."""

    ids: list[int]
    step: int = 3
    deaths: list[int] = field(default_factory=list)
    requests: list[GenerateRequest] = field(default_factory=list)
    contexts: list[RequestContext] = field(default_factory=list)

    async def __call__(self, context: RequestContext, request: GenerateRequest, out: CallWriter) -> None:
        self.requests.append(request)
        self.contexts.append(context)
        assert isinstance(request.emitted_ids, bytes)
        start = len(request.emitted_ids) // 4
        ids = self.ids[: request.max_tokens]
        assert np.frombuffer(request.emitted_ids, "<u4").tolist() == ids[:start]
        death = self.deaths.pop(0) if self.deaths else None
        for position in range(start, len(ids), self.step):
            if death is not None and position - start >= death:
                raise Unavailable("engine.died", "the engine died")
            piece = ids[position : position + self.step]
            logprobs = tuple(Logprobs(chosen=-1.0, top_ids=(97,), top=(-0.5,)) for _ in piece)
            data = np.array(piece, "<u4").tobytes()
            asked = request.top_logprobs is not None
            await out.send(TokensGenerated(first_position=position, ids=data, logprobs=logprobs if asked else ()))
        reason = "length" if len(self.ids) > request.max_tokens else "stop"
        await out.send(finished(reason, len(ids)))


def finished(reason: Any, completion_tokens: int) -> GenerationFinished:
    return GenerationFinished(
        finish_reason=reason,
        prompt_tokens=1,
        completion_tokens=completion_tokens,
        cached_tokens=2,
        prefill_seconds=0.25,
        decode_seconds=0.5,
        system_fingerprint="fp",
    )


@dataclass
class Stack:
    broker: FakeBroker
    blobs: BlobStore
    telemetry: RecordingTelemetry
    vocabulary: Vocabulary
    jobs: list[MediaJob] = field(default_factory=list)

    def ids(self, text: str) -> list[int]:
        return self.vocabulary.encode(text).tolist()

    @asynccontextmanager
    async def engine(self, handler: Any) -> AsyncIterator[Any]:
        async with serve(
            self.broker.bus("engine"),
            CLOCK,
            name=names.SERVICE_ENGINE,
            subject=names.generate(MODEL),
            handler=handler,
            body_type=GenerateRequest,
            max_calls=8,
            version="1.0.0",
        ):
            yield handler

    @asynccontextmanager
    async def ingest(self, answer: Callable[[MediaJob], Awaitable[Any]]) -> AsyncIterator[None]:
        """``answer`` gives what is published for a job, a ``Failure`` as MediaFailed, or None for silence."""
        bus = self.broker.bus("ingest")

        async def handle(delivery: Job) -> None:
            job = decode(delivery.data, MediaJob)
            self.jobs.append(job)
            outcome = await answer(job)
            if isinstance(outcome, Failure):
                outcome = MediaFailed(job_id=job.job_id, failure=outcome)
            elif outcome is not None:
                outcome = MediaPrepared(job_id=job.job_id, manifest=await self.blobs.put(encode(outcome)))
            if outcome is not None:
                await bus.publish(names.media_outcome(job.job_id), encode(outcome))

        async with bus.consume(QUEUE, handle, in_flight=4):
            yield

    async def count(self, request: ChatRequest) -> TokensCounted:
        context = RequestContext(request_id="r2", deadline_unix_seconds=CLOCK.unix_seconds() + 20)
        target = CallTarget(subject=names.count(MODEL), context=context)
        wanted = CountRequest(chat=request)
        (item,) = [i async for i in follow(self.broker.bus("gateway"), CLOCK, target, lambda: wanted, TokensCounted)]
        return item

    async def chat(self, request: ChatRequest, *, seconds: float = 20.0) -> tuple[list[ChatDelta], ChatFinished]:
        context = RequestContext(request_id="r1", deadline_unix_seconds=CLOCK.unix_seconds() + seconds)
        target = CallTarget(subject=names.chat(MODEL), context=context)
        items = [i async for i in follow(self.broker.bus("gateway"), CLOCK, target, lambda: request, ChatItem)]
        assert isinstance(items[-1], ChatFinished)
        return items[:-1], items[-1]


@asynccontextmanager
async def running(directory: Path, *, config: dict[str, Any] | None = None, **checkpoint: Any) -> AsyncIterator[Stack]:
    """A tokenizer that serves a checkpoint written to ``directory``."""
    broker = FakeBroker(seed=1)
    bus = broker.bus("tokenizer")
    await bus.declare(QUEUE)
    stack = Stack(
        broker, BlobStore.open((directory / "blobs").as_uri()), RecordingTelemetry(), Vocabulary(tiny_vocabulary())
    )
    process = Process(name="tokenizer", bus=bus, blobs=stack.blobs, telemetry=stack.telemetry, clock=CLOCK)
    write_checkpoint(directory / MODEL, **checkpoint)
    async with app(TokenizerConfig(checkpoint_dir=directory / MODEL, **(config or {})), process):
        yield stack


def manifest_of(kind: MediaKind, *chunks: tuple[str, int]) -> MediaManifest:
    """A manifest with these (timestamp, tokens)."""
    patches = BlobRef(key="sha256/" + "0" * 64, size_bytes=1)
    return MediaManifest(
        kind=kind,
        width=28,
        height=28,
        frames=(),
        chunks=tuple(
            MediaChunk(
                timestamp_seconds=0.0,
                timestamp_text=stamp,
                grid=(1, 2, 2 * tokens),
                tokens=tokens,
                frames=(0,),
                patches=patches,
            )
            for stamp, tokens in chunks
        ),
        media_tokens=sum(tokens for _, tokens in chunks),
    )


def message(text: str, role: Any = "user", **fields: Any) -> bytes:
    return encode(Message(role=role, content=(TextPart(text=text),), **fields))


def chat(*messages: bytes, **fields: Any) -> ChatRequest:
    return ChatRequest(model=MODEL, messages=messages or (message("hi"),), **fields)


def resumed(request: ChatRequest, deltas: list[ChatDelta]) -> ChatRequest:
    return msgspec.structs.replace(request, resume=b"".join(delta.resume for delta in deltas))
