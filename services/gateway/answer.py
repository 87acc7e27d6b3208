"""Items of a chat as OpenAI's objects: chunks of a stream, or one completion. Both are made from the same deltas, so
the streamed text equals the unstreamed one by construction.

Pure: input ``ChatDelta`` and ``ChatFinished``, output structs that are written as JSON. It must not know HTTP.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from schemas.chat import ChatDelta, ChatFinished, MediaSummary, Timings, ToolCallDelta, Usage


@dataclass(frozen=True)
class AnswerHead:
    """What every object of one answer repeats."""

    request_id: str
    trace_id: str
    model: str
    created_unix_seconds: int


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    media_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class TimingsBody(msgspec.Struct, frozen=True, kw_only=True):
    ingest_seconds: float
    prefill_seconds: float
    decode_seconds: float
    total_seconds: float


class MediaBody(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    width: int
    height: int
    duration_seconds: float | None
    sampled_frames: int
    chunks: int
    media_tokens: int
    manifest: str


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """Ours: ``moontide`` in a completion and in the last chunk of a stream."""

    trace_id: str
    request_id: str
    media: tuple[MediaBody, ...]
    timings: TimingsBody


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    delta: dict[str, Any]
    finish_reason: str | None = None
    logprobs: None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    system_fingerprint: str = ""
    usage: UsageBody | None = None
    moontide: Extension | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    message: dict[str, Any]
    finish_reason: str
    logprobs: None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice, ...]
    usage: UsageBody
    moontide: Extension


def first_chunk(head: AnswerHead) -> Chunk:
    return _chunk(head, {"role": "assistant", "content": ""})


def delta_chunk(head: AnswerHead, delta: ChatDelta) -> Chunk:
    return _chunk(head, _delta_fields(delta))


def last_chunks(head: AnswerHead, finished: ChatFinished, total_seconds: float, include_usage: bool) -> list[Chunk]:
    """The chunk with the finish reason and, if asked for, the one with the usage; the extension is in the last."""
    end = _chunk(head, {}, finish_reason=finished.finish_reason)
    extras: dict[str, Any] = {
        "system_fingerprint": finished.system_fingerprint,
        "moontide": extension(head, finished, total_seconds),
    }
    if not include_usage:
        return [msgspec.structs.replace(end, **extras)]
    return [end, msgspec.structs.replace(end, choices=(), usage=usage_body(finished.usage), **extras)]


def _chunk(head: AnswerHead, delta: dict[str, Any], finish_reason: str | None = None) -> Chunk:
    return Chunk(
        id=head.request_id,
        object="chat.completion.chunk",
        created=head.created_unix_seconds,
        model=head.model,
        choices=(ChunkChoice(delta=delta, finish_reason=finish_reason),),
    )


def _delta_fields(delta: ChatDelta) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if delta.reasoning:
        # Moonshot's API says reasoning_content; the K2.6 card's examples read reasoning.
        fields |= {"reasoning_content": delta.reasoning, "reasoning": delta.reasoning}
    if delta.content:
        fields["content"] = delta.content
    if delta.tool_calls:
        fields["tool_calls"] = [_tool_call_fields(call) for call in delta.tool_calls]
    return fields


def _tool_call_fields(call: ToolCallDelta) -> dict[str, Any]:
    function = {"name": call.name} if call.name else {}
    fields: dict[str, Any] = {"index": call.index, "function": function | {"arguments": call.arguments}}
    return fields | ({"id": call.id, "type": "function"} if call.id else {})


@dataclass
class Answer:
    """Deltas put together."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallDelta] = field(default_factory=dict)

    def add(self, delta: ChatDelta) -> None:
        self.reasoning.append(delta.reasoning)
        self.content.append(delta.content)
        for call in delta.tool_calls:
            known = self.calls.get(call.index, ToolCallDelta(index=call.index))
            self.calls[call.index] = ToolCallDelta(
                index=call.index,
                id=known.id + call.id,
                name=known.name + call.name,
                arguments=known.arguments + call.arguments,
            )

    def completion(self, head: AnswerHead, finished: ChatFinished, total_seconds: float) -> Completion:
        return Completion(
            id=head.request_id,
            created=head.created_unix_seconds,
            model=head.model,
            system_fingerprint=finished.system_fingerprint,
            choices=(Choice(message=self._message(), finish_reason=finished.finish_reason),),
            usage=usage_body(finished.usage),
            moontide=extension(head, finished, total_seconds),
        )

    def _message(self) -> dict[str, Any]:
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        message: dict[str, Any] = {"role": "assistant", "content": content if content or not self.calls else None}
        if reasoning:
            message |= {"reasoning_content": reasoning, "reasoning": reasoning}
        if self.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for _, call in sorted(self.calls.items())
            ]
        return message


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        media_tokens=usage.media_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
        completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
    )


def extension(head: AnswerHead, finished: ChatFinished, total_seconds: float) -> Extension:
    return Extension(
        trace_id=head.trace_id,
        request_id=head.request_id,
        media=tuple(_media_body(item) for item in finished.media),
        timings=_timings_body(finished.timings, total_seconds),
    )


def _media_body(summary: MediaSummary) -> MediaBody:
    return MediaBody(
        name=summary.name,
        kind=summary.kind,
        width=summary.width,
        height=summary.height,
        duration_seconds=summary.duration_seconds,
        sampled_frames=summary.sampled_frames,
        chunks=summary.chunks,
        media_tokens=summary.media_tokens,
        manifest=summary.manifest.key,
    )


def _timings_body(timings: Timings, total_seconds: float) -> TimingsBody:
    return TimingsBody(
        ingest_seconds=round(timings.ingest_seconds, 6),
        prefill_seconds=round(timings.prefill_seconds, 6),
        decode_seconds=round(timings.decode_seconds, 6),
        total_seconds=round(total_seconds, 6),
    )
