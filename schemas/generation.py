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
    top_k: int = 0
    """0: all."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    """Both count emitted tokens only (OpenAI's definition)."""
    repetition_penalty: float = 1.0
    """Of tokens in prompt or answer (arXiv 1909.05858)."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None
    """None: no logprobs; 0: of the chosen token; n: of the n likeliest too."""
    grammar: Payload = b""
    """What the answer must look like: JSON that ``shared.language`` compiles to token masks; empty for anything."""
    cache_key: str = ""
    expected_pause_seconds: float = 0.0
    """The same prefix will be asked for again after about so long."""


class Logprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one emitted token, before temperature and cuts: log-softmax of the model's logits."""

    chosen: float
    top_ids: tuple[int, ...] = ()
    """Likeliest first."""
    top: tuple[float, ...] = ()


class TokensGenerated(msgspec.Struct, frozen=True, kw_only=True, tag="generation.tokens"):
    """``first_position`` counts emitted tokens of the whole generation from 0. A stop id is not sent."""

    first_position: int
    ids: bytes
    logprobs: tuple[Logprobs, ...] = ()
    """One per id, where they were asked for."""


class GenerationFinished(msgspec.Struct, frozen=True, kw_only=True, tag="generation.finished"):
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    prefill_seconds: float
    decode_seconds: float
    system_fingerprint: str


GenerationItem = TokensGenerated | GenerationFinished
