"""Engine, shard and encoder: who computes what, and where its latents lie.

An engine opens one call per shard (``shard.<model>``) and keeps it open: items are answers, beats show life, and a new
``ShardReady`` means that another shard, or the same one without its memory, has taken over. Forwards go the other way,
on a subject of that call. Whatever a shard holds is a cache that the engine can have rebuilt.
"""

import msgspec

from schemas.failure import Failure
from schemas.generation import Logprobs, MediaSpan


class SamplingRule(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens of one sequence are chosen; meanings as in ``GenerateRequest``."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    forbidden: bytes = b""
    """Ids that must not be chosen, as bits: id i is bit i % 8 (lowest first) of byte i // 8."""
    top_logprobs: int | None = None


class SequenceOpened(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence begins to run. ``context`` and ``emitted`` are little-endian uint32, empty where no penalty asks."""

    sequence: int
    rule: SamplingRule
    context: bytes = b""
    """Distinct ids of the prompt."""
    emitted: bytes = b""


class MediaPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The embeddings ``key`` stand from ``position`` on."""

    position: int
    key: str


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """The last row of the slice chooses the token at ``position`` among the emitted ones."""

    position: int
    forced: int | None = None
    """The token is known already; only its logprobs are computed."""
    mask: bytes = b""
    """Bits of allowed ids, as in ``SamplingRule.forbidden``; empty for all."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive positions of one sequence, from ``first`` on."""

    sequence: int
    first: int
    ids: bytes
    """Little-endian uint32."""
    pages_from: int
    """From this place on, the sequence's page table is replaced by ``pages``."""
    pages: tuple[int, ...]
    media: tuple[MediaPlace, ...] = ()
    draw: Draw | None = None


class Forward(msgspec.Struct, frozen=True, kw_only=True, tag="shard.forward"):
    """One forward batch. A number that was seen before is a repetition, and ignored."""

    number: int
    closed: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()
    """Embeddings that are no longer needed."""
    opened: tuple[SequenceOpened, ...] = ()
    slices: tuple[Slice, ...]


class MediaWanted(msgspec.Struct, frozen=True, kw_only=True, tag="shard.media"):
    """The shard gets these embeddings from an encoder and answers ``MediaHeld`` or ``MediaMissing``."""

    key: str
    span: MediaSpan


class ShardOpened(msgspec.Struct, frozen=True, kw_only=True, tag="shard.opened"):
    """Body of an engine's call."""

    engine: str


class ShardReady(msgspec.Struct, frozen=True, kw_only=True, tag="shard.ready"):
    """Empty, and listening on ``names.shard_work(token)``."""

    token: str
    pages: int
    page_tokens: int
    page_bytes: int
    embedding_bytes: int
    """Of one media token."""
    weights_digest: str
    numerics: str
    system_fingerprint: str


class TokenDrawn(msgspec.Struct, frozen=True, kw_only=True):
    sequence: int
    token: int
    logprobs: Logprobs | None = None


class ForwardDone(msgspec.Struct, frozen=True, kw_only=True, tag="shard.done"):
    number: int
    drawn: tuple[TokenDrawn, ...]
    """In the order of the slices that draw."""


class ForwardFailed(msgspec.Struct, frozen=True, kw_only=True, tag="shard.failed"):
    number: int
    failure: Failure


class MediaHeld(msgspec.Struct, frozen=True, kw_only=True, tag="shard.media_held"):
    key: str


class MediaMissing(msgspec.Struct, frozen=True, kw_only=True, tag="shard.media_missing"):
    key: str
    failure: Failure


class EncodeRequest(msgspec.Struct, frozen=True, kw_only=True, tag="encoder.requested"):
    """Body of a shard's call to an encoder."""

    span: MediaSpan


class EmbeddingParcel(msgspec.Struct, frozen=True, kw_only=True, tag="encoder.parcel"):
    """Consecutive rows of the embeddings, raw and little-endian; ``rows`` counts those of the whole item."""

    rows: int
    dtype: str
    data: bytes


ShardWork = Forward | MediaWanted
ShardItem = ShardReady | ForwardDone | ForwardFailed | MediaHeld | MediaMissing
