"""A chat request to one answer of the endpoint: media, dialogue, usage.

Input: ``ChatRequest`` of one admitted call. Output: ``ChatDelta``s and a ``ChatFinished`` on its writer; every
failure is one of our errors. It must not know HTTP, and has no token ids.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from schemas.blobs import Payload
from schemas.chat import ChatFinished, ChatRequest, Message, Timings
from schemas.codec import decode
from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    SPAN_CHAT,
    SPAN_WAIT_MEDIA,
)
from services.upstream import resume, translate
from services.upstream.announcement import thinking_switch
from services.upstream.answer import Answer
from services.upstream.breaker import Breaker
from services.upstream.config import UpstreamConfig
from services.upstream.dialogue import Dialogue, Outcome, ToolStreaming
from services.upstream.endpoint import Endpoint, ListedModel
from services.upstream.exchange import Exchange
from services.upstream.faults import Fault
from services.upstream.media import MediaDesk, Prepared, Rendered
from services.upstream.retry import RetryPolicy, patient
from services.upstream.tools import ToolTable
from shared.blobs.store import BlobStore
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.errors import BadInput, DeadlineExceeded
from shared.language.kept import Kept
from shared.service import Process
from shared.telemetry.request import request_attributes
from shared.telemetry.tracing import Telemetry

Read = tuple[Message, msgspec.Raw | None]
"""A message, and its text in a request: a history comes again with each step."""


@dataclass
class VideoPath:
    """How videos go to this endpoint. In mode ``auto``: as they are, until it refuses one and takes its frames."""

    mode: Literal["auto", "native", "frames"]
    refused: bool = False

    @property
    def native(self) -> bool:
        return self.mode == "native" or (self.mode == "auto" and not self.refused)


@dataclass(frozen=True)
class Served:
    """What is known of the endpoint when it is announced."""

    remote_model: str
    thinking: Literal["moonshot", "template", "none"]
    video: VideoPath
    tools: ToolStreaming


@dataclass(frozen=True)
class _Work:
    """One request while it is worked on."""

    context: RequestContext
    chat: ChatRequest
    messages: list[Message]
    written: list[msgspec.Raw | None]
    """Each of them as it stands in a request, where it is text alone."""
    tools: list[Any]
    response_format: Any
    answer: Answer
    dialogue: Dialogue


@dataclass(frozen=True)
class AnswerChat:
    config: UpstreamConfig
    served: Served
    exchange: Exchange
    media: MediaDesk
    blobs: BlobStore
    telemetry: Telemetry
    clock: Clock
    known: Kept[Read] = field(default_factory=Kept)

    def check(self, context: RequestContext, chat: ChatRequest) -> None:
        """Admission: refuses while the endpoint is left alone."""
        self.exchange.refuse_while_resting()

    async def handle(self, context: RequestContext, chat: ChatRequest, out: CallWriter) -> None:
        attributes = request_attributes(context) | {ATTR_MODEL: chat.model, ATTR_OPERATION: "chat"}
        with self.telemetry.span(SPAN_CHAT, parent=context.traceparent, kind="server", attributes=attributes) as span:
            finished = await self._bounded(context, chat, out)
            span.set_attribute(ATTR_INPUT_TOKENS, finished.usage.prompt_tokens)
            span.set_attribute(ATTR_OUTPUT_TOKENS, finished.usage.completion_tokens)
            span.set_attribute(ATTR_FINISH_REASONS, (finished.finish_reason,))
            await out.send(finished)

    async def _bounded(self, context: RequestContext, chat: ChatRequest, out: CallWriter) -> ChatFinished:
        remaining = context.deadline_unix_seconds - self.clock.unix_seconds()
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                return await self._answer(await self._work(context, chat, out))
        except Fault as fault:
            raise fault.error from None
        except TimeoutError:
            raise DeadlineExceeded(
                "upstream.deadline", "the request's deadline passed before its answer was whole"
            ) from None

    async def _work(self, context: RequestContext, chat: ChatRequest, out: CallWriter) -> _Work:
        """Everything that is refused without asking the endpoint is refused here."""
        already = resume.delivered(await self.blobs.resolve(chat.resume))
        tools = await self._json(chat.tools, "tools") or []
        if not isinstance(tools, list):
            raise BadInput("chat.malformed", "tools is not an array", param="tools")
        table = ToolTable(tools)
        policy = patient(self.exchange.policy, chat.patience_seconds)
        read = [await self._message(payload) for payload in chat.messages]
        return _Work(
            context=context,
            chat=chat,
            messages=[message for message, _ in read],
            written=[text for _, text in read],
            tools=tools,
            response_format=await self._json(chat.response_format, "response_format"),
            answer=Answer(out, self.clock, repeatable=resume.repeatable(chat), already=already),
            dialogue=Dialogue(replace(self.exchange, policy=policy), self.served.tools, self.clock, context, table),
        )

    async def _answer(self, work: _Work) -> ChatFinished:
        started = self.clock.monotonic_seconds()
        prepared = await self._prepare(work)
        asked = self.clock.monotonic_seconds()
        outcome, rendered = await self._ask(work, prepared)
        first, ended = work.answer.first_at or asked, self.clock.monotonic_seconds()
        return ChatFinished(
            finish_reason=outcome.finish_reason,
            usage=outcome.usage,
            timings=Timings(
                ingest_seconds=asked - started, prefill_seconds=first - asked, decode_seconds=ended - first
            ),
            media=rendered.summaries,
        )

    async def _prepare(self, work: _Work) -> list[Prepared]:
        parts = translate.media_parts(work.messages)
        if not parts:
            return []
        with self.telemetry.span(SPAN_WAIT_MEDIA) as span:
            context = msgspec.structs.replace(work.context, traceparent=span.traceparent)
            return await self.media.prepare(context, parts)

    async def _ask(self, work: _Work, prepared: list[Prepared]) -> tuple[Outcome, Rendered]:
        video = self.served.video
        has_video = any(item.part.kind == "video" for item in prepared)
        native = video.native and (video.mode == "native" or self.media.fits(prepared))
        try:
            return await self._hold(work, prepared, native=native)
        except Fault as fault:
            if not (fault.refused and native and has_video and video.mode == "auto"):
                raise
        done = await self._hold(work, prepared, native=False)
        video.refused = True  # only now: a request that is refused either way says nothing about videos
        return done

    async def _hold(self, work: _Work, prepared: list[Prepared], *, native: bool) -> tuple[Outcome, Rendered]:
        rendered = await self.media.render(prepared, native=native)
        body = translate.request_body(
            work.chat,
            work.messages,
            rendered.content,
            model=self.served.remote_model,
            tools=work.tools,
            response_format=work.response_format,
            thinking=translate.thinking_fields(self.served.thinking, work.chat),
            tool_media=self.config.tool_media,
            written=work.written,
        )
        return await work.dialogue.hold(body, work.answer), rendered

    async def _message(self, payload: Payload) -> Read:
        if (known := self.known.get(payload)) is not None:
            return known
        data = await self.blobs.resolve(payload)
        try:
            message = decode(data, Message)
        except msgspec.MsgspecError as error:
            raise BadInput("chat.malformed", "a message cannot be read", param="messages") from error
        read = message, translate.text_message(message)
        self.known.keep(payload, read, 2 * len(data))
        return read

    async def _json(self, payload: Payload, name: str) -> Any:
        data = await self.blobs.resolve(payload)
        try:
            return msgspec.json.decode(data) if data else None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadInput("chat.malformed", f"{name} is not JSON", param=name) from error


def answering(config: UpstreamConfig, listed: ListedModel, endpoint: Endpoint, process: Process) -> AnswerChat:
    """The handler in front of one endpoint, with nothing learned about it yet."""
    served = Served(
        remote_model=listed.id,
        thinking=thinking_switch(config),
        video=VideoPath(config.video),
        tools=ToolStreaming(config.tools_streaming, engine=(listed.owned_by or "").lower()),
    )
    exchange = Exchange(
        endpoint=endpoint,
        breaker=Breaker(config.breaker_failures, config.breaker_seconds),
        policy=RetryPolicy(max_retries=config.max_retries, max_wait_seconds=config.max_wait_seconds),
        telemetry=process.telemetry,
        clock=process.clock,
    )
    return AnswerChat(
        config=config,
        served=served,
        exchange=exchange,
        media=MediaDesk(process.bus, process.blobs, process.clock, config),
        blobs=process.blobs,
        telemetry=process.telemetry,
        clock=process.clock,
    )
