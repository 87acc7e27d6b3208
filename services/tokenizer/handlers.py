"""The ``chat.<model>`` call: conversation, media, prompt, generation, deltas, and a last word with the counts.

Input: ``ChatRequest``. Output: ``ChatDelta``s and one ``ChatFinished``. Knows nothing of HTTP or weights.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.blobs import Payload
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, Timings, Usage
from schemas.generation import GenerateRequest
from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MEDIA_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    ATTR_REQUEST_ID,
    SPAN_CHAT,
    SPAN_RENDER,
    SPAN_WAIT_MEDIA,
)
from services.tokenizer.blobs import Blobs
from services.tokenizer.checkpoint import Checkpoint
from services.tokenizer.conversation import Conversation, ConversationReader
from services.tokenizer.generation import Generation
from services.tokenizer.grammar import checked, wanted_grammar
from services.tokenizer.media import MediaDesk, ReadyMedia
from services.tokenizer.progress import AnswerProgress
from services.tokenizer.sampling import check_sampling, decide, forbidden_ids
from shared.bus.interface import Bus
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.errors import BadInput, NotFound
from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.grammar.compiler import GrammarCompiler
from shared.language.prompt import Prompt, PromptEncoder
from shared.language.template import render
from shared.telemetry.span import Span
from shared.telemetry.tracing import Telemetry

THREAD_CHARS = 20_000
"""Longer conversations are encoded in a thread, so that the streams of others go on."""


@dataclass(frozen=True)
class Readiness:
    """Everything that had to be there before an engine could be asked."""

    prompt: Prompt
    media: Sequence[ReadyMedia]
    ingest_seconds: float


@dataclass(frozen=True)
class ChatHandler:
    model: str
    checkpoint: Checkpoint
    encoder: PromptEncoder
    grammars: GrammarCompiler
    reader: ConversationReader
    desk: MediaDesk
    max_media: int
    bus: Bus
    blobs: Blobs
    telemetry: Telemetry
    clock: Clock

    def check(self, context: RequestContext, request: ChatRequest) -> None:
        """Admission: what can be refused without any work."""
        if names.slug(request.model) != names.slug(self.model):
            raise NotFound("chat.other_model", f"this tokenizer serves {self.model}", param="model")
        if not request.messages:
            raise BadInput("chat.bad_request", "messages is empty", param="messages")
        check_sampling(request.sampling)

    async def __call__(self, context: RequestContext, request: ChatRequest, out: CallWriter) -> None:
        attributes = {ATTR_REQUEST_ID: context.request_id, ATTR_MODEL: self.model, ATTR_OPERATION: "chat"}
        with self.telemetry.span(SPAN_CHAT, parent=context.traceparent, kind="server", attributes=attributes) as span:
            conversation = await self.reader.read(request)
            self._check_media(conversation)
            ready = await self._get_ready(conversation, request, context)
            generation = await self._generation(
                conversation, request, msgspec.structs.replace(context, traceparent=span.traceparent), ready.prompt
            )
            finished = await self._answer(generation, ready, out)
            _describe(span, finished)
            await out.send(finished)

    def _check_media(self, conversation: Conversation) -> None:
        if conversation.media and not self.checkpoint.has_vision:
            raise BadInput("chat.no_vision", f"{self.model} reads text only", param="messages")
        if len(conversation.media) > self.max_media:
            raise BadInput("chat.too_much_media", f"more than {self.max_media} images and videos", param="messages")

    async def _get_ready(self, conversation: Conversation, request: ChatRequest, context: RequestContext) -> Readiness:
        started = self.clock.monotonic_seconds()
        media = await self._wait_media(conversation, context)
        ingest_seconds = self.clock.monotonic_seconds() - started if media else 0.0
        with self.telemetry.span(SPAN_RENDER) as span:
            prompt = await self._render(conversation, request, media)
            span.set_attribute(ATTR_INPUT_TOKENS, len(prompt.ids))
        return Readiness(prompt, media, ingest_seconds)

    async def _wait_media(self, conversation: Conversation, context: RequestContext) -> list[ReadyMedia]:
        if not conversation.media:
            return []
        with self.telemetry.span(SPAN_WAIT_MEDIA) as span:
            inside = msgspec.structs.replace(context, traceparent=span.traceparent)
            media = await self.desk.prepare(conversation.media, inside)
            span.set_attribute(ATTR_MEDIA_TOKENS, sum(item.manifest.media_tokens for item in media))
            return media

    async def _render(self, conversation: Conversation, request: ChatRequest, media: Sequence[ReadyMedia]) -> Prompt:
        def work() -> Prompt:
            turns = render(
                conversation.messages,
                conversation.tools,
                thinking=request.thinking,
                preserve_thinking=request.preserve_thinking,
            )
            return self.encoder.encode(turns, [item.manifest for item in media])

        return await asyncio.to_thread(work) if conversation.chars > THREAD_CHARS else work()

    async def _generation(
        self, conversation: Conversation, request: ChatRequest, context: RequestContext, prompt: Prompt
    ) -> Generation:
        decoding = decide(request, context.request_id, self.checkpoint, len(prompt.ids))
        vocabulary = self.checkpoint.vocabulary
        parser = AnswerParser(vocabulary, thinking=request.thinking, stop=request.sampling.stop)
        forbidden = forbidden_ids(self.checkpoint, thinking=request.thinking, tools=bool(conversation.tools))
        wanted = GenerateRequest(
            model=self.model,
            prompt_ids=await self.blobs.inline_or_put(prompt.ids.astype("<u4").tobytes()),
            media=prompt.media,
            max_tokens=decoding.max_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed,
            stop_ids=tuple(vocabulary.special(name) for name in specials.STOPS),
            forbidden_ids=await self.blobs.inline_or_put(forbidden),
            thinking=decoding.thinking,
            grammar=await self._grammar(conversation, request, decoding.max_tokens),
        )
        progress = AnswerProgress(parser, vocabulary, await self.blobs.resolve(request.resume))
        return Generation(self.bus, self.clock, self.blobs, context, wanted, progress)

    async def _grammar(self, conversation: Conversation, request: ChatRequest, max_tokens: int) -> Payload:
        grammar = wanted_grammar(request, conversation, await self.blobs.resolve(request.response_format))
        if grammar is None:
            return b""
        return await self.blobs.inline_or_put(await asyncio.to_thread(checked, self.grammars, grammar, max_tokens))

    async def _answer(self, generation: Generation, ready: Readiness, out: CallWriter) -> ChatFinished:
        """Streams the answer and says how it ended. An answer that was complete before asks no engine."""
        progress = generation.progress
        started, first = self.clock.monotonic_seconds(), None
        if not progress.is_complete:
            async for delta in generation.deltas():
                first = self.clock.monotonic_seconds() if first is None else first
                await out.send(delta)
        rest = progress.finish()
        if rest != ChatDelta():
            await out.send(rest)
        ended = self.clock.monotonic_seconds()
        first = ended if first is None else first
        measured = Timings(
            ingest_seconds=ready.ingest_seconds, prefill_seconds=first - started, decode_seconds=ended - first
        )
        return conclude(generation, ready, measured)


def conclude(generation: Generation, ready: Readiness, measured: Timings) -> ChatFinished:
    """The last word: the engine's figures where it ended by itself, else what was counted and measured here."""
    progress, finished = generation.progress, generation.finished
    was_full = progress.count >= generation.request.max_tokens and not progress.parser.stopped
    reason = finished.finish_reason if finished else "length" if was_full else "stop"
    if finished:
        measured = msgspec.structs.replace(
            measured, prefill_seconds=finished.prefill_seconds, decode_seconds=finished.decode_seconds
        )
    return ChatFinished(
        finish_reason=progress.finish_reason(reason),
        usage=Usage(
            prompt_tokens=len(ready.prompt.ids),
            completion_tokens=progress.count,
            media_tokens=ready.prompt.media_tokens,
            cached_tokens=finished.cached_tokens if finished else 0,
            reasoning_tokens=progress.parser.reasoning_tokens,
        ),
        timings=measured,
        media=tuple(item.summary() for item in ready.media),
        system_fingerprint=finished.system_fingerprint if finished else "",
    )


def _describe(span: Span, finished: ChatFinished) -> None:
    span.set_attribute(ATTR_INPUT_TOKENS, finished.usage.prompt_tokens)
    span.set_attribute(ATTR_OUTPUT_TOKENS, finished.usage.completion_tokens)
    span.set_attribute(ATTR_MEDIA_TOKENS, finished.usage.media_tokens)
    span.set_attribute(ATTR_FINISH_REASONS, (finished.finish_reason,))
