"""The ``chat.<model>`` call: prompt, generation, deltas, and a last word with the counts.

Input: ``ChatRequest``. Output: ``ChatDelta``s and one ``ChatFinished``. Knows nothing of HTTP or weights.
"""

import asyncio
from dataclasses import dataclass

import msgspec

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
    SPAN_CHAT,
)
from services.tokenizer.blobs import Blobs
from services.tokenizer.generation import Generation
from services.tokenizer.grammar import checked, wanted_grammar
from services.tokenizer.progress import AnswerProgress
from services.tokenizer.prompts import PromptDesk, Readiness
from services.tokenizer.sampling import (
    Situation,
    check_biases,
    check_budget,
    check_sampling,
    decide,
    forbidden_ids,
)
from shared.bus.interface import Bus
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.grammar.compiler import GrammarCompiler
from shared.telemetry.request import request_attributes
from shared.telemetry.span import Span
from shared.telemetry.tracing import Telemetry


@dataclass(frozen=True)
class ChatHandler:
    desk: PromptDesk
    grammars: GrammarCompiler
    thinking_budget_tokens: int | None
    """What the server says where a request does not."""
    bus: Bus
    blobs: Blobs
    telemetry: Telemetry
    clock: Clock

    def check(self, context: RequestContext, request: ChatRequest) -> None:
        """Admission: what can be refused without any work."""
        self.desk.check(request)
        check_sampling(request.sampling)
        check_biases(request.sampling, self.desk.checkpoint.vocabulary.size)
        check_budget(request.thinking_budget_tokens)

    async def __call__(self, context: RequestContext, request: ChatRequest, out: CallWriter) -> None:
        attributes = request_attributes(context) | {ATTR_MODEL: self.desk.model, ATTR_OPERATION: "chat"}
        with self.telemetry.span(SPAN_CHAT, parent=context.traceparent, kind="server", attributes=attributes) as span:
            ready = await self.desk.prepare(request, context)
            inside = msgspec.structs.replace(context, traceparent=span.traceparent)
            generation = await self._generation(request, inside, ready)
            finished = await self._answer(generation, ready, out)
            _describe(span, finished)
            await out.send(finished)

    async def _generation(self, request: ChatRequest, context: RequestContext, ready: Readiness) -> Generation:
        vocabulary = self.desk.checkpoint.vocabulary
        wanted = await self._wanted(request, context.request_id, ready)
        parser = AnswerParser(vocabulary, thinking=ready.opens_reasoning, stop=request.sampling.stop)
        progress = AnswerProgress(parser, vocabulary, await self.blobs.resolve(request.resume))
        patience = request.patience_seconds
        return Generation(self.bus, self.clock, self.blobs, context, wanted, progress, patience)

    async def _wanted(self, request: ChatRequest, request_id: str, ready: Readiness) -> GenerateRequest:
        checkpoint, prompt, sampling = self.desk.checkpoint, ready.prompt, request.sampling
        budget = self.thinking_budget_tokens
        decoding = decide(request, request_id, Situation(checkpoint, len(prompt.ids), ready.opens_reasoning, budget))
        forbidden = forbidden_ids(checkpoint, thinking=ready.opens_reasoning, tools=ready.conversation.may_call)
        return GenerateRequest(
            model=self.desk.model,
            prompt_ids=await self.blobs.inline_or_put(prompt.ids.astype("<u4").tobytes()),
            media=prompt.media,
            max_tokens=decoding.max_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed,
            stop_ids=tuple(checkpoint.vocabulary.special(name) for name in specials.STOPS),
            forbidden_ids=await self.blobs.inline_or_put(forbidden),
            thinking=decoding.thinking,
            top_k=sampling.top_k or 0,
            min_p=sampling.min_p or 0.0,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=sampling.logit_bias,
            top_logprobs=sampling.top_logprobs,
            cache_key=request.cache_key,
            expected_pause_seconds=request.expected_pause_seconds,
            grammar=await self._grammar(ready, request, decoding.max_tokens),
        )

    async def _grammar(self, ready: Readiness, request: ChatRequest, max_tokens: int) -> Payload:
        wanted = await self.blobs.resolve(request.response_format)
        grammar = wanted_grammar(request, ready.conversation, wanted, thinking=ready.opens_reasoning)
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
