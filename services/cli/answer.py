"""What a gateway says while it answers, gathered into one answer.

Input: chunks of a streamed chat completion (OpenAI's shape, with this project's extension object). Output: ``Answer``.
Knows nothing of HTTP and of terminals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.chat import Usage


class Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    delta: Delta = Delta()
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct, frozen=True):
    media_tokens: int = 0
    cached_tokens: int = 0


class UsageChunk(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    media_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None

    def to_usage(self) -> Usage:
        details = self.prompt_tokens_details or PromptDetails()
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            media_tokens=details.media_tokens if self.media_tokens is None else self.media_tokens,
            cached_tokens=details.cached_tokens,
        )


class MediaFact(msgspec.Struct, frozen=True):
    """One input as the model saw it. ``duration_seconds`` is None for an image."""

    kind: str
    width: int
    height: int
    duration_seconds: float | None = None
    sampled_frames: int = 0
    chunks: int = 0
    name: str = ""
    media_tokens: int = 0
    manifest: str = ""
    """Under which the gateway shows what the model saw."""


class TimingFact(msgspec.Struct, frozen=True):
    ingest_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0


class Extension(msgspec.Struct, frozen=True):
    """The object ``moontide`` of a response."""

    trace_id: str = ""
    request_id: str = ""
    media: tuple[MediaFact, ...] = ()
    timings: TimingFact | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One ``data:`` event of a streamed chat completion."""

    model: str = ""
    choices: tuple[Choice, ...] = ()
    usage: UsageChunk | None = None
    moontide: Extension | None = None


@dataclass
class Answer:
    """Grows with every chunk."""

    model: str = ""
    reasoning: str = ""
    content: str = ""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=0, completion_tokens=0))
    media: tuple[MediaFact, ...] = ()
    timings: TimingFact = field(default_factory=TimingFact)
    trace_id: str = ""

    def add(self, chunk: Chunk) -> None:
        self.model = chunk.model or self.model
        for choice in chunk.choices[:1]:
            self.reasoning += choice.delta.reasoning_content or ""
            self.content += choice.delta.content or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
        if chunk.usage is not None:
            self.usage = chunk.usage.to_usage()
        if chunk.moontide is not None:
            self._extend(chunk.moontide)

    def _extend(self, extension: Extension) -> None:
        self.trace_id = extension.trace_id or self.trace_id
        self.media = extension.media or self.media
        self.timings = extension.timings or self.timings

    def to_json(self, name: str, total_seconds: float, evidence: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """One line of `moontide analyze --json`."""
        return {
            "input": name,
            "answer": self.content,
            "reasoning": self.reasoning,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "media_tokens": self.usage.media_tokens,
            },
            "evidence": list(evidence),
            "media": _media_json(self.media[0]) if self.media else None,
            "timings": msgspec.to_builtins(self.timings) | {"total_seconds": round(total_seconds, 6)},
            "model": self.model,
            "trace_id": self.trace_id,
        }


def _media_json(media: MediaFact) -> dict[str, Any]:
    fields = ("kind", "width", "height", "duration_seconds", "sampled_frames", "chunks")
    return {name: getattr(media, name) for name in fields}
