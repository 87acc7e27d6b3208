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
    sampling: Sampling = Sampling()
    resume: Payload = b""
    """The ``resume`` of every ``ChatDelta`` received so far, concatenated; empty on a first attempt."""


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True, tag="chat.delta"):
    """A piece of the answer. Whoever keeps ``resume`` pieces can continue exactly behind them."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
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
