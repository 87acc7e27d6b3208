"""The ``generate.<model>`` call: fetch what the request refers to, hand it to encoder and engine, stream what comes.

Input: ``GenerateRequest``. Output: ``TokensGenerated`` (the first at once, then about every 40 ms) and one
``GenerationFinished``. It must not know text or weights.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from schemas.blobs import BlobRef, Payload
from schemas.generation import GenerateRequest, GenerationFinished, MediaSpan, TokensGenerated
from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MEDIA_CACHED,
    ATTR_MEDIA_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    ATTR_REQUEST_ID,
    SPAN_DECODE,
    SPAN_ENCODE_MEDIA,
    SPAN_GENERATE,
    SPAN_PREFILL,
    AttributeValue,
)
from services.inference.admission import check_request, decode_ids, encode_ids, sampling_rule
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.generation import Generation, Phase
from services.inference.shard import MediaRows
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.errors import BadInput
from shared.model.config import ModelConfig
from shared.telemetry.span import Span
from shared.telemetry.tracing import Telemetry

COALESCE_SECONDS = 0.04


class Blobs(Protocol):
    """The part of the blob store that is used here."""

    async def get(self, ref: BlobRef) -> bytes: ...

    async def resolve(self, payload: Payload) -> bytes: ...


@dataclass(frozen=True)
class GenerateHandler:
    model: str
    config: ModelConfig
    fingerprint: str
    engine: Engine
    encoder: Encoder
    blobs: Blobs
    telemetry: Telemetry
    clock: Clock

    def check(self, context: RequestContext, request: GenerateRequest) -> None:
        """Admission: raises BadInput for what can never work, Busy for what cannot work now."""
        if request.model != self.model:
            raise BadInput("generation.other_model", f"this engine serves {self.model}", param="model")
        check_request(request, self.config)
        self.engine.check_room()

    async def __call__(self, context: RequestContext, request: GenerateRequest, out: CallWriter) -> None:
        attributes: dict[str, AttributeValue] = {
            ATTR_REQUEST_ID: context.request_id,
            ATTR_MODEL: self.model,
            ATTR_OPERATION: "generate_content",
        }
        with self.telemetry.span(
            SPAN_GENERATE, parent=context.traceparent, kind="server", attributes=attributes
        ) as span:
            generation = await self._prepare(context, request)
            generation.media = await self._media_rows(request.media)
            finished = await self._generate(generation, out)
            span.set_attribute(ATTR_INPUT_TOKENS, finished.prompt_tokens)
            span.set_attribute(ATTR_OUTPUT_TOKENS, finished.completion_tokens)
            span.set_attribute(ATTR_FINISH_REASONS, (finished.finish_reason,))
            await out.send(finished)

    async def _prepare(self, context: RequestContext, request: GenerateRequest) -> Generation:
        vocabulary = self.config.text.vocab_size
        prompt = decode_ids(await self.blobs.resolve(request.prompt_ids), vocabulary, "prompt_ids")
        emitted = decode_ids(await self.blobs.resolve(request.emitted_ids), vocabulary, "emitted_ids")
        forbidden = decode_ids(await self.blobs.resolve(request.forbidden_ids), vocabulary, "forbidden_ids")
        return Generation(
            prompt=prompt.tolist(),
            emitted=emitted.tolist(),
            max_tokens=request.max_tokens,
            stop_ids=frozenset(request.stop_ids),
            rule=sampling_rule(request, forbidden, vocabulary),
            deadline_unix_seconds=context.deadline_unix_seconds,
        )

    async def _media_rows(self, media: tuple[MediaSpan, ...]) -> list[MediaRows]:
        """Embeddings of every span, one after another: the patches of a long video are never held at once."""
        if not media:
            return []
        with self.telemetry.span(SPAN_ENCODE_MEDIA) as span:
            rows: list[MediaRows] = []
            cached = 0
            for item in media:
                known = self.encoder.cached(item)
                cached += known is not None
                if known is None:
                    known = await self.encoder.encode(item, await self.blobs.get(item.patches))
                rows.append((item.position, known))
            span.set_attribute(ATTR_MEDIA_TOKENS, sum(item.tokens for item in media))
            span.set_attribute(ATTR_MEDIA_CACHED, cached == len(media))
            return rows

    async def _generate(self, generation: Generation, out: CallWriter) -> GenerationFinished:
        with self.engine.admit(generation):
            await generation.reach(Phase.PREFILLING)
            started = self.clock.monotonic_seconds()
            with self.telemetry.span(SPAN_PREFILL) as span:
                span.set_attribute(ATTR_INPUT_TOKENS, len(generation.prompt))
                await generation.reach(Phase.DECODING)
            decoding = self.clock.monotonic_seconds()
            with self.telemetry.span(SPAN_DECODE) as span:
                await self._stream(generation, out, span)
        assert generation.finish_reason is not None
        return GenerationFinished(
            finish_reason=generation.finish_reason,
            prompt_tokens=len(generation.prompt),
            completion_tokens=len(generation.emitted),
            prefill_seconds=decoding - started,
            decode_seconds=self.clock.monotonic_seconds() - decoding,
            system_fingerprint=self.fingerprint,
        )

    async def _stream(self, generation: Generation, out: CallWriter, span: Span) -> None:
        sent = first = generation.replayed
        while True:
            await generation.grow(sent)
            ids = generation.emitted[sent:]
            if ids:
                await out.send(TokensGenerated(first_position=sent, ids=encode_ids(ids)))
                sent += len(ids)
            if generation.phase is Phase.ENDED and sent == len(generation.emitted):
                span.set_attribute(ATTR_OUTPUT_TOKENS, sent - first)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(COALESCE_SECONDS):
                    await generation.reach(Phase.ENDED)
