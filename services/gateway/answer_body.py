"""The objects of an answer as they are written: OpenAI's, with Moonshot's fields and ours.

Pure. It must not know where their values come from.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.chat import ChatFinished, FinishReason, MediaSummary, Timings, Usage
from services.gateway.agent_answer import RunActivity, ToolActivity


class UsageBody(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    """Moonshot's place for it; ``prompt_tokens_details`` is OpenAI's."""
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


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Of the run that gave an agent's answer."""

    id: str
    status: str
    steps: int
    cost_usd: float
    files: tuple[str, ...]
    """URLs below the gateway."""


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """Ours: ``moontide`` in a completion and in the last chunk of a stream."""

    trace_id: str
    request_id: str
    media: tuple[MediaBody, ...]
    timings: TimingsBody
    run: RunFacts | UnsetType = UNSET


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class LogprobBody(TopLogprob, frozen=True, kw_only=True):
    top_logprobs: tuple[TopLogprob, ...]


class Logprobs(msgspec.Struct, frozen=True, kw_only=True):
    content: tuple[LogprobBody, ...]
    refusal: None = None


class DeltaFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class DeltaCall(msgspec.Struct, frozen=True, kw_only=True):
    """``id``, ``type`` and ``name`` are in the first delta of a call."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: DeltaFunction
    incomplete: bool | UnsetType = UNSET
    """Ours: the arguments were cut off."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[DeltaCall, ...] | UnsetType = UNSET
    tool_activity: tuple[ToolActivity, ...] | UnsetType = UNSET
    """Ours, of agents: what happens to the calls that the run makes itself."""
    run_activity: RunActivity | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None
    usage: UsageBody | UnsetType = UNSET


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    system_fingerprint: str = ""
    usage: UsageBody | None = None
    moontide: Extension | None = None
    run_id: str = ""
    """Ours, of agents, as in ``Completion``."""


class AnswerFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    arguments: str


class AnswerCall(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: AnswerFunction
    incomplete: bool | UnsetType = UNSET
    """Ours: the arguments were cut off."""


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: tuple[AnswerCall, ...] | UnsetType = UNSET
    tool_activity: tuple[ToolActivity, ...] | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: Logprobs | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice, ...]
    usage: UsageBody
    moontide: Extension
    run_id: str | UnsetType = UNSET


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        media_tokens=usage.media_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_tokens},
        completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
    )


def extension(
    trace_id: str,
    request_id: str,
    finished: ChatFinished,
    total_seconds: float,
    run: RunFacts | UnsetType = UNSET,
) -> Extension:
    return Extension(
        trace_id=trace_id,
        request_id=request_id,
        media=tuple(_media_body(item) for item in finished.media),
        timings=_timings_body(finished.timings, total_seconds),
        run=run,
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
