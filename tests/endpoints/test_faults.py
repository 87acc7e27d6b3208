"""Endpoints that misbehave: each request ends in the right answer or in a clear error, in bounded time."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.chat import Sampling
from shared.errors import BadInput, Busy, DeadlineExceeded, MoontideError, Unavailable
from tests.endpoints.scripted import Script, serving
from tests.endpoints.stands import Heard, context, request, stand, user
from tests.endpoints.test_answers import CLOCK, WEATHER

CONTENT = "You said “hello” and sent 0 images and 0 videos. — ✓ done 🎞"
REPEATABLE = Sampling(temperature=0.0, seed=1)
BOUND_SECONDS = 10.0


def script(*defects: str, **fields: Any) -> Script:
    return Script(defects=frozenset(defects), **fields)


@pytest.mark.parametrize(
    "defect", ["busy", "fails", "drops_connection", "html", "malformed_sse", "wrong_json", "error_event"]
)
async def test_what_passes_is_waited_for(defect: str) -> None:
    """Damage in the middle of a stream is repeated where an answer can be, and what was delivered comes once."""
    async with serving(script(defect, hits=2)) as endpoint, stand(endpoint.url) as one:
        answer = await one.ask(request(sampling=REPEATABLE))
    assert answer.content == CONTENT
    assert answer.reasoning == "Let me think about that.  "
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        ("fails", "upstream.failed"),
        ("drops_connection", "upstream.died"),
        ("hangs", "upstream.timeout"),
        ("drips", "upstream.timeout"),
        ("html", "upstream.malformed"),
        ("malformed_sse", "upstream.interrupted"),
        ("wrong_json", "upstream.interrupted"),
        ("error_event", "upstream.interrupted"),
        ("dies_midstream", "upstream.interrupted"),
        ("no_finish", "upstream.interrupted"),
        ("endless_line", "upstream.malformed"),
        ("redirects", "upstream.failed"),
        ("unauthorized", "upstream.unauthorized"),
    ],
)
async def test_what_stays_ends_in_one_clear_error(defect: str, code: str) -> None:
    started = time.monotonic()
    async with serving(script(defect)) as endpoint, stand(endpoint.url, max_retries=1) as one:
        with pytest.raises(Unavailable) as failure:
            await one.ask()
    assert (failure.value.code, failure.value.status, failure.value.retryable) == (code, 502, False)
    assert len(endpoint.requests) <= 2
    assert time.monotonic() - started < BOUND_SECONDS


async def test_a_wait_that_is_too_long_is_passed_on() -> None:
    async with serving(script("busy", retry_after="600")) as endpoint, stand(endpoint.url) as one:
        with pytest.raises(Busy) as failure:
            await one.ask()
    assert failure.value.retry_after_seconds == 600.0
    assert len(endpoint.requests) == 1


async def test_retry_after_is_honoured() -> None:
    async with serving(script("busy", retry_after="0.4", hits=1)) as endpoint, stand(endpoint.url) as one:
        started = time.monotonic()
        answer = await one.ask()
    assert answer.content == CONTENT
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("defect", ["refuses", "content_filter"])
async def test_a_refused_request_is_not_repeated(defect: str) -> None:
    async with serving(script(defect)) as endpoint, stand(endpoint.url) as one:
        with pytest.raises(BadInput) as failure:
            await one.ask()
    assert len(endpoint.requests) == 1
    if defect == "refuses":
        assert (failure.value.param, failure.value.status) == ("temperature", 400)


async def test_the_deadline_ends_everything() -> None:
    async with serving(script("hangs")) as endpoint, stand(endpoint.url, first_token_seconds=60) as one:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await one.ask(seconds=0.3)
    assert time.monotonic() - started < 3.0


async def test_nobody_at_the_port() -> None:
    async with serving() as endpoint, stand(endpoint.url, max_retries=1) as one:
        gone = endpoint.url
    async with stand(gone, remote_model="m", max_retries=1) as one:
        with pytest.raises(Unavailable) as failure:
            await one.ask()
    assert failure.value.code == "upstream.unreachable"


async def test_an_endpoint_that_keeps_failing_is_left_alone_and_tried_again() -> None:
    options = {"max_retries": 0, "breaker_failures": 2, "breaker_seconds": 0.3}
    async with serving(script("fails", hits=2)) as endpoint, stand(endpoint.url, **options) as one:
        for _ in range(2):
            with pytest.raises(Unavailable, match="500"):
                await one.ask()
        with pytest.raises(Unavailable) as resting:
            await one.ask()
        assert resting.value.code == "upstream.resting"
        assert resting.value.retryable
        assert len(endpoint.requests) == 2
        deadline = time.monotonic() + 5.0
        while one.handler.exchange.breaker.blocked_seconds(time.monotonic()) > 0:
            assert time.monotonic() < deadline
            await one.handler.clock.sleep(0.02)
        assert (await one.ask()).content == CONTENT


@pytest.mark.parametrize("defect", ["empty_tool_deltas", "empty_tool_deltas_stop"])
async def test_lost_tool_calls_are_asked_for_again_unstreamed(defect: str) -> None:
    async with serving(script(defect)) as endpoint, stand(endpoint.url) as one:
        first = await one.ask(request(user("call all"), tools=[WEATHER, CLOCK]))
        second = await one.ask(request(user("call"), tools=[CLOCK]))
    assert [call.name for call in first.calls] == ["get_weather", "clock"]
    assert [call.name for call in second.calls] == ["clock"]
    assert [sent["stream"] for sent in endpoint.requests] == [True, False, False], "it remembers"


async def test_known_engines_are_not_asked_to_stream_tool_calls() -> None:
    async with serving(script("empty_tool_deltas", owned_by="vllm")) as endpoint, stand(endpoint.url) as one:
        assert (await one.ask(request(user("call"), tools=[WEATHER]))).calls
        await one.ask(request(user("hello")))
    assert [sent["stream"] for sent in endpoint.requests] == [False, True]


@pytest.mark.parametrize("defect", ["bad_arguments", "broken_arguments", "unknown_tool"])
async def test_calls_that_do_not_fit_are_mended_once(defect: str) -> None:
    async with serving(script(defect, hits=1)) as endpoint, stand(endpoint.url, tools_streaming="never") as one:
        answer = await one.ask(request(user("call"), tools=[WEATHER]))
    assert [(call.name, call.arguments) for call in answer.calls] == [("get_weather", '{"city": "x", "days": 1}')]
    assert answer.finished is not None
    assert len(endpoint.requests) == 2
    assert "Make them again" in endpoint.requests[1]["messages"][-1]["content"]
    assert answer.finished.usage.prompt_tokens > 50, "both requests are counted"


@pytest.mark.parametrize(
    ("defect", "reason"),
    [("bad_arguments", "'city' is a required property"), ("broken_arguments", "not JSON"), ("unknown_tool", "nobody")],
)
async def test_calls_that_stay_broken_fail_with_their_reason(defect: str, reason: str) -> None:
    async with serving(script(defect)) as endpoint, stand(endpoint.url, tools_streaming="always") as one:
        with pytest.raises(Unavailable, match=reason) as failure:
            await one.ask(request(user("call"), tools=[WEATHER]))
    assert (failure.value.code, failure.value.retryable) == ("upstream.tool_calls", False)
    assert len(endpoint.requests) == 2


async def half(one: Any, chat: Any) -> Heard:
    """The answer up to where its reader went away."""
    heard = Heard()
    with pytest.raises(MoontideError):
        await one.handler.handle(context(), chat, heard)
    assert heard.deltas
    return heard


async def test_a_resume_is_refused_for_good_where_answers_are_drawn() -> None:
    async with serving(script("dies_midstream", hits=1)) as endpoint, stand(endpoint.url) as one:
        heard = await half(one, request())
        with pytest.raises(Unavailable, match="not resumable") as failure:
            await one.ask(request(resume=heard.resume))
    assert not failure.value.retryable
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("ask", ["hello", "call all"])
async def test_a_resume_is_continued_where_answers_repeat(ask: str) -> None:
    chat = request(user(ask), sampling=REPEATABLE, tools=[WEATHER, CLOCK])
    async with serving(script(token_seconds=0.002)) as endpoint, stand(endpoint.url) as one:
        whole = await one.ask(chat)
        for kept in range(len(whole.deltas) + 1):
            resume = b"".join(delta.resume for delta in whole.deltas[:kept])
            rest = await one.ask(request(user(ask), sampling=REPEATABLE, tools=[WEATHER, CLOCK], resume=resume))
            both = Heard(deltas=[*whole.deltas[:kept], *rest.deltas])
            assert (both.reasoning, both.content, both.calls) == (whole.reasoning, whole.content, whole.calls)
            assert rest.finished is not None
            assert whole.finished is not None
            assert rest.finished.usage == whole.finished.usage


async def test_a_repetition_that_differs_is_an_error() -> None:
    async with serving(script("answers_differ", reasoning_field="")) as endpoint, stand(endpoint.url) as one:
        whole = await one.ask(request(sampling=REPEATABLE))
        with pytest.raises(Unavailable, match="not resumable") as failure:
            await one.ask(request(sampling=REPEATABLE, resume=whole.resume))
    assert not failure.value.retryable


KEY = "sk-VerySecret0123456789abcdefghijklmnop"


@pytest.mark.parametrize(
    "defect", ["unauthorized", "busy", "fails", "refuses", "dies_midstream", "html", "hangs", "bad_arguments"]
)
async def test_the_key_appears_nowhere(defect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    async with serving(script(defect, key=KEY)) as endpoint, stand(endpoint.url, key_file=file, max_retries=1) as one:
        with pytest.raises(MoontideError) as failure:
            await one.ask(request(user(f"call {KEY}"), tools=[WEATHER]))
        assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
        told = [repr(failure.value), repr(failure.value.to_failure()), repr(failure.value.__cause__), caplog.text]
        told += [f"{span.attributes} {span.error}" for span in one.spans.all]
        told += [repr(one.handler.exchange.endpoint.key), repr(one.handler.config)]
    assert not [text for text in told for start in range(len(KEY) - 5) if KEY[start : start + 6] in text]


async def test_a_rotated_key_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old-key-old-key")
    async with serving(script(key="old-key-old-key")) as endpoint, stand(endpoint.url, key_file=file) as one:
        await one.ask()
        file.write_text("new-key-new-key")
        endpoint.script.key = "new-key-new-key"
        assert (await one.ask()).content == CONTENT
