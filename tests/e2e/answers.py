"""Asking with the `openai` client, streamed and not, in one comparable form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai


@dataclass(frozen=True)
class Answer:
    content: str
    reasoning: str
    finish_reason: str
    completion_tokens: int
    trace_id: str


def whole(client: openai.OpenAI, **request: Any) -> Answer:
    reply = client.chat.completions.create(**request)
    choice = reply.choices[0]
    return Answer(
        choice.message.content or "",
        getattr(choice.message, "reasoning_content", "") or "",
        choice.finish_reason,
        reply.usage.completion_tokens if reply.usage else -1,
        (reply.model_extra or {})["moontide"]["trace_id"],
    )


def streamed(client: openai.OpenAI, on_delta: Callable[[int], None] = lambda count: None, **request: Any) -> Answer:
    """``on_delta(n)`` is called after the n-th piece of text (from 1)."""
    content = reasoning = finish_reason = trace_id = ""
    completion_tokens, pieces = -1, 0
    stream = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **request)
    for chunk in stream:
        if chunk.usage:
            completion_tokens = chunk.usage.completion_tokens
        trace_id = (chunk.model_extra or {}).get("moontide", {}).get("trace_id", trace_id)
        for choice in chunk.choices:
            piece, thought = choice.delta.content or "", getattr(choice.delta, "reasoning_content", "") or ""
            content, reasoning = content + piece, reasoning + thought
            finish_reason = choice.finish_reason or finish_reason
            if piece or thought:
                pieces += 1
                on_delta(pieces)
    return Answer(content, reasoning, finish_reason, completion_tokens, trace_id)


def same(first: Answer, second: Answer) -> bool:
    """Equal in everything but the trace."""
    return (first.content, first.reasoning, first.finish_reason, first.completion_tokens) == (
        second.content,
        second.reasoning,
        second.finish_reason,
        second.completion_tokens,
    )
