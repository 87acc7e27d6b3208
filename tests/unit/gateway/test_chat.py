"""A chat over HTTP: streamed equals unstreamed, errors have their status, every accepted id ends in one record."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from schemas.chat import ChatDelta, ToolCallDelta
from shared.errors import BadInput, Busy, DeadlineExceeded, Unavailable

UNDECODABLE = BadInput("media.undecodable", "broken.png cannot be decoded", param="broken.png")
HELLO: list[Any] = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def client(stand: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


async def events_of(response: aiohttp.ClientResponse) -> list[Any]:
    """The data of a finished stream; the last is ``[DONE]`` when it ended well."""
    text = (await response.read()).decode()
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def test_the_openai_client_streams_what_it_gets_unstreamed(gateway: Any) -> None:
    async with client(gateway) as api:
        whole = await api.chat.completions.create(model="tiny", messages=HELLO)
        stream = await api.chat.completions.create(
            model="tiny", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    message: Any = whole.choices[0].message
    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert message.content == 'A mö"on" 🌕\n'
    assert "".join(delta.content or "" for delta in deltas) == message.content
    for field in ("reasoning", "reasoning_content"):
        assert getattr(message, field) == "Let me see…"
        assert "".join(getattr(delta, field, "") for delta in deltas) == "Let me see…"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].system_fingerprint == whole.system_fingerprint == "fp-1"
    assert len({chunk.id for chunk in chunks}) == 1
    assert whole.id.startswith("chatcmpl-")


async def test_usage_and_the_extension(gateway: Any) -> None:
    response = await gateway.chat()
    body = await response.json()
    assert body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "cached_tokens": 2,
        "media_tokens": 588,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    ours = body["moontide"]
    assert ours["request_id"] == body["id"] == response.headers["x-request-id"]
    assert len(ours["trace_id"]) == 32
    assert ours["timings"].pop("total_seconds") > 0
    assert ours["timings"] == {"ingest_seconds": 0.25, "prefill_seconds": 0.5, "decode_seconds": 0.125}
    assert ours["media"][0] == {
        "name": "clip.mp4",
        "kind": "video",
        "width": 320,
        "height": 180,
        "duration_seconds": 13.0,
        "sampled_frames": 26,
        "chunks": 7,
        "media_tokens": 588,
        "manifest": "sha256/" + "a" * 64,
    }


@pytest.mark.parametrize("include_usage", [True, False])
async def test_the_last_chunk_carries_the_extension(gateway: Any, include_usage: bool) -> None:
    response = await gateway.chat(stream=True, stream_options={"include_usage": include_usage})
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *chunks, done = await events_of(response)
    assert done == "[DONE]"
    assert [("moontide" in chunk, "usage" in chunk) for chunk in chunks[-2:]] == [
        (False, False),
        (True, include_usage),
    ]
    assert chunks[-1]["moontide"]["request_id"] == response.headers["x-request-id"]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


async def test_tool_calls(make_gateway: Any) -> None:
    script = (
        ChatDelta(tool_calls=(ToolCallDelta(index=0, id="call_0", name="look", arguments='{"at"'),)),
        ChatDelta(tool_calls=(ToolCallDelta(index=0, arguments=": 1}"), ToolCallDelta(index=1, id="b", name="go"))),
    )
    async with make_gateway() as stand, client(stand) as api:
        stand.answer.script = (*script, msgspec.structs.replace(stand.answer.script[-1], finish_reason="tool_calls"))
        whole = await api.chat.completions.create(model="tiny", messages=HELLO)
        stream = await api.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        arguments = ""
        async for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or ():
                if call.index == 0 and call.function is not None:
                    arguments += call.function.arguments or ""
    choice: Any = whole.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    assert calls == [("call_0", "look", '{"at": 1}'), ("b", "go", "")]
    assert arguments == '{"at": 1}'


async def test_accepted_before_dispatch_and_finished_after(gateway: Any) -> None:
    body = await (await gateway.chat()).json()
    terminal = await gateway.terminal()
    assert gateway.answer.events_at_start == [["dev.moontide.request.accepted"]]
    assert terminal.type == "dev.moontide.request.finished"
    assert terminal.data.request_id == terminal.subject == body["id"]
    assert terminal.data.trace_id == body["moontide"]["trace_id"]
    assert terminal.data.model == "tiny"


async def test_the_trace_of_the_caller_is_continued(gateway: Any) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with gateway.http.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": "tiny", "messages": HELLO},
        headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    ) as response:
        assert (await response.json())["moontide"]["trace_id"] == trace_id
    assert gateway.answer.contexts[0].traceparent.split("-")[1] == trace_id


async def test_the_seed_is_fixed_for_all_attempts(gateway: Any) -> None:
    await gateway.chat()
    await gateway.chat(seed=5)
    assert isinstance(gateway.answer.requests[0].sampling.seed, int)
    assert gateway.answer.requests[1].sampling.seed == 5


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "kind", "retry_after"),
    [
        (UNDECODABLE, 400, "invalid_request_error", None),
        (Busy("tokenizer.busy", "full", retry_after_seconds=2.2), 429, "engine_overloaded_error", "3"),
        (Unavailable("bus.no_responder", "nobody"), 503, "server_unavailable", None),
        (DeadlineExceeded("call.deadline", "late"), 504, "server_error", None),
        (ValueError("secret inside"), 500, "server_error", None),
    ],
)
async def test_an_error_before_the_first_item_has_its_status(
    make_gateway: Any, stream: bool, error: Exception, status: int, kind: str, retry_after: str | None
) -> None:
    async with make_gateway(script=(error,)) as stand:
        response = await stand.chat(stream=stream)
        detail = (await response.json())["error"]
        assert (response.status, detail["type"]) == (status, kind)
        assert response.headers.get("Retry-After") == retry_after
        assert "secret" not in detail["message"]
        if isinstance(error, BadInput):
            assert (detail["code"], detail["param"]) == ("media.undecodable", "broken.png")
        terminal = await stand.terminal()
        assert terminal.type == "dev.moontide.request.failed"
        assert terminal.data.failure.code == detail["code"]


async def test_an_error_after_the_first_byte_is_the_last_event(make_gateway: Any) -> None:
    error = Unavailable("call.silent", "the service fell silent")
    async with make_gateway(script=(ChatDelta(content="A"), error)) as stand:
        events = await events_of(await stand.chat(stream=True))
        assert events[-1] == {
            "error": {
                "type": "server_unavailable",
                "message": "the service fell silent",
                "code": "call.silent",
                "param": None,
            }
        }
        assert (await stand.terminal()).data.failure.code == "call.silent"


async def test_the_openai_client_raises_for_an_error_in_the_stream(make_gateway: Any) -> None:
    async with make_gateway(script=(ChatDelta(content="A"), Unavailable("x", "broke"))) as stand, client(stand) as api:
        stream = await api.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="broke"):
            _ = [chunk async for chunk in stream]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("first", [(), (ChatDelta(content="A"),)])
async def test_a_client_that_goes_away_cancels_its_call(make_gateway: Any, stream: bool, first: Any) -> None:
    async with make_gateway(script=(*first, asyncio.Event())) as stand:
        asked = asyncio.create_task(stand.chat(stream=stream))
        await stand.called()
        if stream and first:
            (await asked).close()
        else:
            asked.cancel()
        async with asyncio.timeout(10):
            await stand.answer.closed.wait()
        assert (await stand.terminal()).type == "dev.moontide.request.cancelled"


async def test_a_drain_cancels_what_does_not_end(make_gateway: Any) -> None:
    async with make_gateway(script=(ChatDelta(content="A"), asyncio.Event())) as stand:
        response = await stand.chat(stream=True)
        await stand.stop()
        response.close()
        assert stand.answer.closed.is_set()
        assert (await stand.terminal()).type == "dev.moontide.request.cancelled"


async def test_a_drain_lets_answers_end(make_gateway: Any) -> None:
    gate = asyncio.Event()
    async with make_gateway(drain_seconds=10.0) as stand:
        stand.answer.script = (ChatDelta(content="A"), gate, *stand.answer.script)
        response = await stand.chat(stream=True)
        stopping = asyncio.create_task(stand.stop())
        await asyncio.sleep(0)
        gate.set()
        assert (await events_of(response))[-1] == "[DONE]"
        await stopping
        assert (await stand.terminal()).type == "dev.moontide.request.finished"


async def test_a_silent_stream_gets_comments(make_gateway: Any) -> None:
    gate = asyncio.Event()
    async with make_gateway(heartbeat_seconds=0.02) as stand:
        stand.answer.script = (ChatDelta(content="A"), gate, *stand.answer.script)
        response = await stand.chat(stream=True)
        async with asyncio.timeout(10):
            while not (await response.content.readline()).startswith(b":"):
                pass
        gate.set()
        assert (await events_of(response))[-1] == "[DONE]"


async def test_a_client_that_does_not_read_is_dropped(make_gateway: Any) -> None:
    """A stream without end to a reader that has stopped: only so many bytes are taken from the call."""
    taken = 0
    piece = "x" * 65536

    class Endless(tuple):
        def __iter__(self) -> Any:
            nonlocal taken
            while True:
                taken += 1
                yield ChatDelta(content=piece)

    async with make_gateway(script=Endless(), write_timeout_seconds=0.3) as stand:
        response = await stand.chat(stream=True)
        async with asyncio.timeout(20):
            await stand.answer.closed.wait()
        assert (await stand.terminal()).type == "dev.moontide.request.cancelled"
        assert taken * len(piece) < 64 * 1024 * 1024
        response.close()


async def test_more_requests_than_the_bound_are_refused(make_gateway: Any) -> None:
    gate = asyncio.Event()
    async with make_gateway(max_requests=1) as stand:
        stand.answer.script = (ChatDelta(content="A"), gate, *stand.answer.script)
        first = await stand.chat(stream=True)
        second = await stand.chat()
        assert (second.status, second.headers["Retry-After"]) == (429, "1")
        assert (await second.json())["error"]["code"] == "gateway.busy"
        gate.set()
        assert (await events_of(first))[-1] == "[DONE]"
        await stand.terminal()
        assert (await stand.chat()).status == 200


async def test_an_unknown_model_names_the_known_ones(gateway: Any) -> None:
    response = await gateway.chat(model="gpt-4o")
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "tiny" in error["message"]
    assert gateway.events() == []


async def test_default_is_the_only_model(make_gateway: Any) -> None:
    async with make_gateway() as stand:
        assert (await (await stand.chat(model="default")).json())["model"] == "tiny"
    async with make_gateway(models=("tiny", "other")) as stand:
        assert (await stand.chat(model="default")).status == 404


async def test_without_any_model_a_chat_is_unavailable(make_gateway: Any) -> None:
    async with make_gateway(models=()) as stand:
        response = await stand.chat()
        assert response.status == 503
        assert "Retry-After" in response.headers


async def test_nothing_is_begun_that_cannot_be_recorded(gateway: Any) -> None:
    stream = gateway.broker.streams.pop("MOONTIDE_EVENTS")
    response = await gateway.chat()
    assert response.status == 503
    assert gateway.answer.requests == []
    gateway.broker.streams["MOONTIDE_EVENTS"] = stream
    assert (await gateway.terminal()).type == "dev.moontide.request.failed"
