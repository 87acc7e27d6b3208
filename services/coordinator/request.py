"""What the model is asked: the run's conversation as references, its tools, and limits that keep the budget.

Input: a situation. Output: a ``ChatRequest`` and its context. Equal situations give equal requests: a call that is
asked again, by this owner or the next, is the same call. It must not know how the answer is got.
"""

import msgspec

from schemas.blobs import Payload
from schemas.chat import ChatRequest, Sampling
from schemas.request import RequestContext
from services.coordinator import budget, prompt
from services.coordinator.step import Situation

SUMMARY_TOKENS = 16_384
PATIENCE_SECONDS = 1.0
"""What lasts longer is waited for by the run, where people see it."""
SPARE_TOKENS = 64
"""Between an estimate of the prompt and what it really has."""


def step_request(now: Situation, tools: Payload) -> ChatRequest:
    return _request(now, tools, _payloads(now), _answer_tokens(now, now.state.spec.sampling.max_tokens))


def summary_request(now: Situation, tools: Payload) -> ChatRequest:
    """With the same tools: the prompt keeps its cached prefix."""
    asked = prompt.text("user", prompt.SUMMARY_REQUEST)
    return _request(now, tools, [*_payloads(now), asked], _answer_tokens(now, SUMMARY_TOKENS))


def call_context(now: Situation, traceparent: str, *, summary: bool = False) -> RequestContext:
    state = now.state
    suffix = "-summary" if summary else ""
    return msgspec.structs.replace(
        state.context,
        request_id=f"{state.run_id}-{state.step}{suffix}",
        deadline_unix_seconds=now.deadline_unix_seconds,
        traceparent=traceparent,
    )


def _request(now: Situation, tools: Payload, messages: list[Payload], max_tokens: int | None) -> ChatRequest:
    spec = now.state.spec
    return ChatRequest(
        model=spec.model,
        messages=tuple(messages),
        tools=tools,
        thinking=spec.thinking,
        sampling=_sampling(spec.sampling, max_tokens),
        cache_key=now.state.run_id,
        patience_seconds=PATIENCE_SECONDS,
        expected_pause_seconds=now.limits.catalogue.expected_seconds(now.trail.expected),
    )


def _sampling(wanted: Sampling, max_tokens: int | None) -> Sampling:
    return msgspec.structs.replace(wanted, max_tokens=max_tokens)


def _answer_tokens(now: Situation, wanted: int | None) -> int | None:
    """None: as the model's side sees fit. A limit must fit the context behind the prompt."""
    tokens = now.trail.gauge.prompt_tokens
    affordable = budget.answer_tokens(now.state.spec.budget, now.spent, tokens, now.limits.price)
    limits = [limit for limit in (wanted, affordable) if limit is not None]
    if not limits:
        return None
    length = now.limits.window.context_length
    if length is not None:
        limits.append(max(length - tokens - SPARE_TOKENS, budget.MIN_ANSWER_TOKENS))
    return min(limits)


def _payloads(now: Situation) -> list[Payload]:
    return [prompt.system(now.state.spec), *now.trail.transcript.payloads]
