"""The generation contract: token ids in, token ids out. Called by a tokenizer, answered by an engine."""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef, Payload


class MediaSpan(msgspec.Struct, frozen=True, kw_only=True):
    """``tokens`` placeholder ids from ``position`` on stand for the embeddings of these patches."""

    position: int
    tokens: int
    grid: tuple[int, int, int]
    patches: BlobRef


class ThinkingLimit(msgspec.Struct, frozen=True, kw_only=True):
    """After ``budget_tokens`` emitted tokens without ``end_id``, the next token is ``end_id``."""

    budget_tokens: int
    end_id: int


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True, tag="generation.requested"):
    model: str
    prompt_ids: Payload
    """Little-endian uint32, media placeholders already expanded."""
    emitted_ids: Payload = b""
    """What earlier attempts have emitted: generation continues behind them, and they are not sent again."""
    media: tuple[MediaSpan, ...] = ()
    max_tokens: int
    """Counted from the end of the prompt, emitted ids included."""
    temperature: float
    top_p: float
    seed: int
    stop_ids: tuple[int, ...]
    forbidden_ids: Payload = b""
    """Little-endian uint32: ids that must not be chosen."""
    thinking: ThinkingLimit | None = None


class TokensGenerated(msgspec.Struct, frozen=True, kw_only=True, tag="generation.tokens"):
    """``first_position`` counts emitted tokens of the whole generation from 0. A stop id is not sent."""

    first_position: int
    ids: bytes


class GenerationFinished(msgspec.Struct, frozen=True, kw_only=True, tag="generation.finished"):
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    prefill_seconds: float
    decode_seconds: float
    system_fingerprint: str


GenerationItem = TokensGenerated | GenerationFinished
