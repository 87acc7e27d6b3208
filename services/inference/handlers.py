"""The ``generate.<model>`` call: fetch what the request refers to, hand it to the engine, stream what comes.

Input: ``GenerateRequest``. Output: ``TokensGenerated`` (the first at once, then about every 40 ms) and one
``GenerationFinished``. It must not know text, weights or pages.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from schemas.blobs import Payload
from schemas.generation import GenerateRequest, GenerationFinished, TokensGenerated
from schemas.request import Principal, RequestContext
from schemas.telemetry import (
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MEDIA_CACHED,
    ATTR_MEDIA_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    SPAN_DECODE,
    SPAN_ENCODE_MEDIA,
    SPAN_GENERATE,
    SPAN_PREFILL,
)
from services.inference.admission import check_request, decode_ids, encode_ids, id_count, sampling_rule
from services.inference.engine import Engine
from services.inference.generation import Generation, Phase
from services.inference.mask import TokenMask
from services.inference.sequence import Medium, Sequence
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.errors import BadInput
from shared.model.config import ModelConfig
from shared.telemetry.request import request_attributes
from shared.telemetry.span import Span
from shared.telemetry.tracing import Telemetry

COALESCE_SECONDS = 0.04


class Blobs(Protocol):
    """The part of the blob store that is used here."""

    async def resolve(self, payload: Payload) -> bytes: ...


@dataclass(frozen=True)
class GenerateHandler:
    model: str
    config: ModelConfig
    engine: Engine
    blobs: Blobs
    telemetry: Telemetry
    clock: Clock
    compile_grammar: Callable[[bytes, int], Awaitable[TokenMask]] | None = None
    """From ``GenerateRequest.grammar`` and ``max_tokens`` to the state of one answer. Raises BadInput."""

    def check(self, context: RequestContext, request: GenerateRequest) -> None:
        """Admission: raises BadInput for what can never work, Busy for what cannot work now."""
        if request.model != self.model:
            raise BadInput("generation.other_model", f"this engine serves {self.model}", param="model")
        check_request(request, self.config)
        if request.grammar and self.compile_grammar is None:
            raise BadInput("generation.no_grammar", "this engine takes no grammar", param="grammar")
        self.engine.check_room(id_count(request.prompt_ids, "prompt_ids"), request.max_tokens)

    async def __call__(self, context: RequestContext, request: GenerateRequest, out: CallWriter) -> None:
        attributes = request_attributes(context) | {ATTR_MODEL: self.model, ATTR_OPERATION: "generate_content"}
        with self.telemetry.span(
            SPAN_GENERATE, parent=context.traceparent, kind="server", attributes=attributes
        ) as span:
            generation = await self._prepare(context, request)
            finished = await self._generate(generation, out)
            span.set_attribute(ATTR_INPUT_TOKENS, finished.prompt_tokens)
            span.set_attribute(ATTR_OUTPUT_TOKENS, finished.completion_tokens)
            span.set_attribute(ATTR_FINISH_REASONS, (finished.finish_reason,))
            await out.send(finished)

    async def _prepare(self, context: RequestContext, request: GenerateRequest) -> Generation:
        vocabulary = self.config.text.vocab_size
        prompt = decode_ids(await self.blobs.resolve(request.prompt_ids), vocabulary, "prompt_ids").tolist()
        emitted = decode_ids(await self.blobs.resolve(request.emitted_ids), vocabulary, "emitted_ids").tolist()
        forbidden = decode_ids(await self.blobs.resolve(request.forbidden_ids), vocabulary, "forbidden_ids")
        sequence = Sequence(
            number=self.engine.next_number(),
            owner=f"{context.principal.tenant}/{context.principal.key_id}",
            tokens=prompt + emitted,
            prompt=len(prompt),
            max_length=len(prompt) + request.max_tokens,
            batch=context.priority == "batch",
            media=tuple(Medium.of(span) for span in sorted(request.media, key=lambda span: span.position)),
            pause_seconds=request.expected_pause_seconds,
            deadline_unix_seconds=context.deadline_unix_seconds,
            realm=_realm(context.principal),
        )
        return Generation(
            sequence=sequence,
            rule=sampling_rule(request, forbidden, vocabulary),
            stop_ids=frozenset(request.stop_ids),
            thinking=request.thinking,
            mask=await self._mask(request, emitted),
        )

    async def _mask(self, request: GenerateRequest, emitted: list[int]) -> TokenMask | None:
        if not request.grammar:
            return None
        if self.compile_grammar is None:
            raise BadInput("generation.no_grammar", "this engine takes no grammar", param="grammar")
        mask = await self.compile_grammar(await self.blobs.resolve(request.grammar), request.max_tokens)
        for token in emitted:
            mask.accept(token)
        return mask

    async def _generate(self, generation: Generation, out: CallWriter) -> GenerationFinished:
        sequence = generation.sequence
        with self.engine.admit(generation):
            await generation.reach(Phase.PREFILLING)
            started = self.clock.monotonic_seconds()
            await self._pass_media(generation)
            with self.telemetry.span(SPAN_PREFILL) as span:
                span.set_attribute(ATTR_INPUT_TOKENS, sequence.prompt)
                await generation.reach(Phase.DECODING)
            decoding = self.clock.monotonic_seconds()
            with self.telemetry.span(SPAN_DECODE) as span:
                await self._stream(generation, out, span)
        assert generation.finish_reason is not None
        return GenerationFinished(
            finish_reason=generation.finish_reason,
            prompt_tokens=sequence.prompt,
            completion_tokens=len(generation.emitted),
            cached_tokens=sequence.cached_tokens,
            prefill_seconds=decoding - started,
            decode_seconds=self.clock.monotonic_seconds() - decoding,
            system_fingerprint=self.engine.about.system_fingerprint,
        )

    async def _pass_media(self, generation: Generation) -> None:
        """Embeddings come while the prompt is computed; the span ends with the last row that needs one."""
        media = generation.sequence.media
        if not media:
            return
        with self.telemetry.span(SPAN_ENCODE_MEDIA) as span:
            span.set_attribute(ATTR_MEDIA_TOKENS, sum(medium.tokens for medium in media))
            await generation.pass_media()
            span.set_attribute(ATTR_MEDIA_CACHED, not generation.media_fetched)

    async def _stream(self, generation: Generation, out: CallWriter, span: Span) -> None:
        sent = first = generation.replayed
        while True:
            await generation.grow(sent)
            ids = generation.emitted[sent:]
            if ids:
                logprobs = tuple(generation.logprobs[sent - first :])
                await out.send(TokensGenerated(first_position=sent, ids=encode_ids(ids), logprobs=logprobs))
                sent += len(ids)
            if generation.ended and sent == len(generation.emitted):
                span.set_attribute(ATTR_OUTPUT_TOKENS, sent - first)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(COALESCE_SECONDS):
                    await generation.reach(Phase.ENDED)


def _realm(principal: Principal) -> bytes:
    """The tenant; of the local principal nothing, so that one who serves without keys shares everything."""
    return b"" if principal.tenant == Principal().tenant else f"{principal.tenant}|".encode()
