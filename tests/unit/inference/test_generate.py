"""The generation call without a bus: same request, same answer; resumed anywhere, the same rest; bounded."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from schemas.generation import GenerateRequest, GenerationFinished, MediaSpan, ThinkingLimit, TokensGenerated
from schemas.request import Principal
from schemas.telemetry import SPAN_DECODE, SPAN_ENCODE_MEDIA, SPAN_GENERATE, SPAN_PREFILL, SpanEnded
from services.inference.admission import encode_ids
from services.inference.compute import ComputeThread
from services.inference.handlers import GenerateHandler
from shared.errors import BadInput, Busy, DeadlineExceeded, NotFound
from shared.telemetry.recording import RecordingTelemetry
from tests.unit.inference.conftest import Blobs, Caller, context, request


async def answer(handler: GenerateHandler, body: GenerateRequest) -> Caller:
    caller = Caller()
    handler.check(context(), body)
    await handler(context(), body, caller)
    return caller


def spans_of(blobs: Blobs) -> tuple[MediaSpan, ...]:
    """A chunk of three frames at position 3 and an image at position 14, across a slice border."""
    generator = torch.Generator().manual_seed(9)
    spans = []
    for position, grid in ((3, (3, 4, 6)), (14, (1, 2, 8))):
        count = grid[0] * grid[1] * grid[2] * 3 * 14 * 14
        data = torch.randint(0, 256, (count,), generator=generator, dtype=torch.uint8).numpy().tobytes()
        tokens = grid[1] * grid[2] // 4
        spans.append(MediaSpan(position=position, tokens=tokens, grid=grid, patches=blobs.put(f"p{position}", data)))
    return tuple(spans)


async def test_the_same_request_gets_the_same_answer(handler: GenerateHandler) -> None:
    first, second = await answer(handler, request()), await answer(handler, request())
    assert first.ids == second.ids
    assert len(first.ids) == 24
    assert first.finished.finish_reason == "length"
    assert (first.finished.prompt_tokens, first.finished.completion_tokens) == (40, 24)
    assert (await answer(handler, request(seed=6))).ids != first.ids


async def test_resumed_at_every_position_the_rest_is_the_same(handler: GenerateHandler, blobs: Blobs) -> None:
    media = spans_of(blobs)
    whole = (await answer(handler, request(media=media))).ids
    assert whole != (await answer(handler, request())).ids
    for position in range(1, len(whole) + 1):
        resumed = await answer(handler, request(media=media, emitted_ids=encode_ids(whole[:position])))
        assert resumed.ids == whole[position:]
        firsts = [item.first_position for item in resumed.items if isinstance(item, TokensGenerated)]
        assert firsts[:1] == ([position] if position < len(whole) else [])
        assert resumed.finished.completion_tokens == len(whole)


async def test_a_stop_id_ends_the_answer_and_is_not_sent(handler: GenerateHandler) -> None:
    whole = (await answer(handler, request())).ids
    stop = next(token for index, token in enumerate(whole) if index > 3 and token not in whole[:index])
    stopped = await answer(handler, request(stop_ids=(stop,)))
    assert stopped.ids == whole[: whole.index(stop)]
    assert stopped.finished.finish_reason == "stop"


async def test_thinking_is_ended_at_its_budget(handler: GenerateHandler) -> None:
    limit = ThinkingLimit(budget_tokens=5, end_id=700)
    limited = await answer(handler, request(thinking=limit, forbidden_ids=encode_ids([9])))
    assert limited.ids[5] == 700
    assert 9 not in limited.ids


async def test_a_prefix_is_known_to_its_tenant_only(handler: GenerateHandler) -> None:
    """Else a tenant could try what another one has asked, and read in the usage whether it was right."""

    async def ask(tenant: str, key: str) -> GenerationFinished:
        caller, body = Caller(), request(prompt=300)
        principal = Principal(tenant=tenant, key_id=key)
        await handler(msgspec.structs.replace(context(), principal=principal), body, caller)
        return caller.finished

    asked = [await ask(*who) for who in (("acme", "1"), ("acme", "2"), ("other", "1"), ("acm", "e|1"), ("acme", "1"))]
    assert [finished.cached_tokens for finished in asked] == [0, 256, 0, 0, 256]


async def test_the_first_token_comes_alone_and_the_rest_coalesced(handler: GenerateHandler) -> None:
    caller = await answer(handler, request(max_tokens=60))
    pieces = [item for item in caller.items if isinstance(item, TokensGenerated)]
    assert pieces[0].first_position == 0
    assert len(pieces[0].ids) <= 8
    assert len(pieces) < 60
    assert [p.first_position for p in pieces] == np.cumsum([0, *(len(p.ids) // 4 for p in pieces[:-1])]).tolist()


async def test_spans_lie_under_the_callers_span(handler: GenerateHandler, blobs: Blobs) -> None:
    await answer(handler, request(media=spans_of(blobs)))
    assert isinstance(handler.telemetry, RecordingTelemetry)
    ended = {message.name: message for message in handler.telemetry.messages if isinstance(message, SpanEnded)}
    parents = {name: ended[name].parent_span_id for name in (SPAN_ENCODE_MEDIA, SPAN_PREFILL, SPAN_DECODE)}
    assert set(parents.values()) == {ended[SPAN_GENERATE].span_id}


async def test_a_full_queue_refuses_with_a_retry_after(handler: GenerateHandler) -> None:
    body = request(max_tokens=4000)
    callers = [Caller() for _ in range(3)]
    tasks = [asyncio.create_task(handler(context(), body, caller)) for caller in callers]
    await callers[0].first.wait()
    with pytest.raises(Busy) as refused:
        handler.check(context(), body)
    assert refused.value.retry_after_seconds
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert handler.engine.load == 0
    assert len((await answer(handler, request())).ids) == 24


async def test_a_deadline_ends_a_generation_between_steps(handler: GenerateHandler) -> None:
    with pytest.raises(DeadlineExceeded):
        await handler(context(deadline_in_seconds=0.05), request(max_tokens=100_000), Caller())


async def test_the_loop_runs_on_during_a_forward(handler: GenerateHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every computation waits in its thread for a callback of the loop: a loop held up by it would never make it."""
    loop, run = asyncio.get_running_loop(), ComputeThread.run

    async def after_a_tick(self: ComputeThread, work: Callable[[], Any]) -> Any:
        def waiting() -> Any:
            ticked = threading.Event()
            loop.call_soon_threadsafe(ticked.set)
            assert ticked.wait(timeout=20), "the loop stands still during a forward"
            return work()

        return await run(self, waiting)

    monkeypatch.setattr(ComputeThread, "run", after_a_tick)
    assert len((await answer(handler, request(max_tokens=4))).ids) == 4


async def test_missing_patches_are_said(handler: GenerateHandler, blobs: Blobs) -> None:
    media = spans_of(blobs)
    blobs.data.clear()
    with pytest.raises(NotFound):
        await answer(handler, request(media=media))


@pytest.mark.parametrize(("prompt", "max_tokens"), [(262_144, 1), (262_143, 1), (262_000, 144)])
async def test_what_fits_the_context_is_admitted(handler: GenerateHandler, prompt: int, max_tokens: int) -> None:
    handler.check(context(), request(prompt, max_tokens=max_tokens))


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "param"),
    [(262_145, 1, "prompt_ids"), (262_144, 2, "max_tokens"), (262_143, 2, "max_tokens"), (262_000, 145, "max_tokens")],
)
async def test_what_exceeds_the_context_is_refused(
    handler: GenerateHandler, prompt: int, max_tokens: int, param: str
) -> None:
    with pytest.raises(BadInput) as refused:
        handler.check(context(), request(prompt, max_tokens=max_tokens))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "other"}, "model"),
        ({"prompt_ids": b""}, "prompt_ids"),
        ({"prompt_ids": b"abc"}, "prompt_ids"),
        ({"prompt_ids": encode_ids([99_999])}, "prompt_ids"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 262_105}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"emitted_ids": encode_ids([1] * 25)}, "emitted_ids"),
        ({"forbidden_ids": encode_ids(list(range(768)))}, "forbidden_ids"),
        ({"thinking": ThinkingLimit(budget_tokens=1, end_id=768)}, "thinking"),
    ],
)
async def test_bad_requests_are_refused_by_name(handler: GenerateHandler, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadInput) as refused:
        await answer(handler, request(**changes))
    assert refused.value.param == param


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": (5, 4, 6)},
        {"grid": (3, 3, 6)},
        {"grid": (3, 4, 0)},
        {"tokens": 7},
        {"position": 12},
        {"position": 38},
        {"grid": (2, 4, 6)},
    ],
)
async def test_bad_media_is_refused(handler: GenerateHandler, blobs: Blobs, changes: dict[str, Any]) -> None:
    first, second = spans_of(blobs)
    with pytest.raises(BadInput) as refused:
        await answer(handler, request(media=(msgspec.structs.replace(first, **changes), second)))
    assert refused.value.param == "media"
