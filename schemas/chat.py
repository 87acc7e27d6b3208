"""The chat contract: answered by a tokenizer (or an upstream), called by the gateway (or a coordinator)."""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef, Payload
from schemas.media import MediaKind

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls"]


class TextPart(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    text: str


class MediaPart(msgspec.Struct, frozen=True, kw_only=True, tag="media"):
    kind: MediaKind
    source: BlobRef
    name: str
    """What the sender calls this input (file name or position in the request); failures name it."""


Part = TextPart | MediaPart


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: Role
    content: tuple[Part, ...] = ()
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """None means: the checkpoint's recommended value. A draw depends on (seed, position) only."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int | None = None
    """Only the k likeliest tokens; None or 0: all."""
    min_p: float | None = None
    """Only tokens at least this likely relative to the likeliest (arXiv 2407.01082)."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, what is added to its logit)."""
    top_logprobs: int | None = None
    """None: no logprobs; 0: of the chosen token; n: of the n likeliest too."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, tag="chat.requested"):
    model: str
    messages: tuple[Payload, ...]
    """One msgpack-encoded ``Message`` each, inline or by reference; equal messages are equal bytes."""
    tools: Payload = b""
    """JSON array of OpenAI tool objects, or empty."""
    tool_choice: bytes = b""
    """JSON of OpenAI's ``tool_choice`` (a string or an object), or empty for the default."""
    response_format: Payload = b""
    """JSON of OpenAI's ``response_format`` object, or empty for plain text."""
    thinking: bool = True
    preserve_thinking: bool = False
    thinking_budget_tokens: int | None = None
    """Reasoning is closed after so many tokens; None means the server's default."""
    partial: bool = False
    """The last message is the assistant's and unfinished: the answer continues it."""
    sampling: Sampling = Sampling()
    cache_key: str = ""
    """Requests of one key and principal share a prefix (``prompt_cache_key``); a hint for placement."""
    expected_pause_seconds: float = 0.0
    """The caller will continue this conversation after about so long (a tool runs): its cache is worth keeping."""
    patience_seconds: float = 0.0
    """The caller waits better itself: what does not pass in about so long (a limit of the endpoint, an engine that is
    away) is passed on as a refusal. 0: as the callee sees fit."""
    resume: Payload = b""
    """The ``resume`` of every ``ChatDelta`` received so far, concatenated; empty on a first attempt."""


class CountRequest(msgspec.Struct, frozen=True, kw_only=True, tag="count.requested"):
    """How many prompt tokens would this chat have? What only concerns its answer is ignored."""

    chat: ChatRequest


class TokensCounted(msgspec.Struct, frozen=True, kw_only=True, tag="count.finished"):
    """The only item of a count. Exactly what ``Usage`` of the same chat would say."""

    prompt_tokens: int
    media_tokens: int = 0


class ModelVariant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name for the same weights, used differently. Tokenizers announce them: metadata ``variants``, a JSON array.

    Whoever resolves ``id`` asks ``chat.<model>`` of the announced model, with these values where a request has none.
    """

    id: str
    thinking: bool
    temperature: float
    top_p: float
    max_tokens: int | None = None
    thinking_budget_tokens: int | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    incomplete: bool = False
    """Set in the last delta of a call whose arguments were cut off."""


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """``data``: the token's bytes, which need not be whole characters."""

    data: bytes
    logprob: float


class ContentLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """One token of the content, and the likeliest ones in its place, likeliest first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True, tag="chat.delta"):
    """A piece of the answer. Whoever keeps ``resume`` pieces can continue exactly behind them."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[ContentLogprob, ...] = ()
    resume: bytes = b""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    media_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    ingest_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class MediaSummary(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: MediaKind
    width: int
    height: int
    duration_seconds: float | None
    sampled_frames: int
    chunks: int
    media_tokens: int
    manifest: BlobRef


class ChatFinished(msgspec.Struct, frozen=True, kw_only=True, tag="chat.finished"):
    """Last item of a chat that ended well. Counts cover the whole answer, earlier attempts included."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    media: tuple[MediaSummary, ...] = ()
    system_fingerprint: str = ""


ChatItem = ChatDelta | ChatFinished
