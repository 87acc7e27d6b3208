"""Several choices, logprobs, one call at a time: what is sent beyond one plain answer."""

import asyncio
import json
from typing import Any

import openai
import pytest

from schemas.chat import ChatDelta, ChatFinished, ChatRequest, ContentLogprob, TokenLogprob, ToolCallDelta, Usage
from services.gateway.choices import derived_seed, interleaved
from tests.unit.gateway.conftest import MODEL

FINISHED = ChatFinished(finish_reason="stop", usage=Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=4))
CAPABLE = {"capabilities": "tools,sampling,logprobs"}


def by_seed(request: ChatRequest) -> tuple[Any, ...]:
    seed = request.sampling.seed
    return (ChatDelta(content="seed "), ChatDelta(content=str(seed)), FINISHED)


async def chunks(response: Any) -> list[Any]:
    lines = (await response.text()).split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


async def test_choices_differ_in_their_seed_and_count_their_prompt_once(make_gateway: Any) -> None:
    async with make_gateway(script=by_seed) as stand:
        body = await (await stand.chat(n=3, seed=5)).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert texts == [f"seed {seed}" for seed in (5, derived_seed(5, 1), derived_seed(5, 2))]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 6, 13)
    assert usage["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"] == 4


async def test_streamed_choices_are_the_unstreamed_ones(make_gateway: Any) -> None:
    async with make_gateway(script=by_seed) as stand:
        whole = await (await stand.chat(n=3, seed=5)).json()
        stream = await chunks(await stand.chat(n=3, seed=5, stream=True, stream_options={"include_usage": True}))
    texts = {0: "", 1: "", 2: ""}
    for chunk in stream:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert list(texts.values()) == [choice["message"]["content"] for choice in whole["choices"]]
    ends = [choice for chunk in stream for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted(end["index"] for end in ends) == [0, 1, 2]
    assert all(end["usage"]["completion_tokens"] == 2 for end in ends)
    assert stream[-1]["choices"] == []
    assert stream[-1]["usage"] == whole["usage"]


async def test_choices_take_places(make_gateway: Any) -> None:
    waiting = asyncio.Event()
    async with make_gateway(script=(waiting, *by_seed_script()), max_requests=3) as stand:
        asked = asyncio.create_task(stand.chat(n=2))
        await stand.called()
        refused = await stand.chat(n=2)
        assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        waiting.set()
        assert (await asked).status == 200
        assert (await stand.terminal()).type.endswith("finished")


def by_seed_script() -> tuple[Any, ...]:
    return (ChatDelta(content="x"), FINISHED)


async def test_the_others_begin_when_the_first_has_begun() -> None:
    begun: list[int] = []
    first_may_speak = asyncio.Event()

    async def stream(index: int) -> Any:
        begun.append(index)
        if index == 0:
            await first_may_speak.wait()
        yield "a"
        yield "b"

    items = interleaved([stream(index) for index in range(3)])
    first = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == [0]
    first_may_speak.set()
    received = [await first] + [item async for item in items]
    assert begun == [0, 1, 2]
    assert sorted(received) == [(index, text) for index in range(3) for text in "ab"]


async def test_what_one_choice_raises_ends_all() -> None:
    closed: list[int] = []

    async def stream(index: int) -> Any:
        try:
            yield index
            if index == 1:
                raise ValueError("no")
            await asyncio.Event().wait()
        finally:
            closed.append(index)

    with pytest.raises(ValueError, match="no"):
        async with asyncio.timeout(5):
            _ = [item async for item in interleaved([stream(index) for index in range(3)])]
    assert sorted(closed) == [0, 1, 2]


def token(data: bytes, logprob: float) -> TokenLogprob:
    return TokenLogprob(data=data, logprob=logprob)


SCORED = (
    ChatDelta(content="", logprobs=(ContentLogprob(chosen=token("ö".encode()[:1], -0.5)),)),
    ChatDelta(
        content="ö!",
        logprobs=(
            ContentLogprob(chosen=token("ö".encode()[1:], -0.25), top=(token(b"x", -0.125),)),
            ContentLogprob(chosen=token(b"!", 0.0)),
        ),
    ),
    FINISHED,
)


async def test_logprobs_in_openais_shape_streamed_and_not(make_gateway: Any) -> None:
    async with make_gateway(script=SCORED, metadata=CAPABLE) as stand:
        client = openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key="none", max_retries=0)
        messages: Any = [{"role": "user", "content": "hi"}]
        async with client:
            whole = await client.chat.completions.create(model=MODEL, messages=messages, logprobs=True, top_logprobs=1)
            streamed = await client.chat.completions.create(
                model=MODEL, messages=messages, logprobs=True, top_logprobs=1, stream=True
            )
            pieces = [chunk async for chunk in streamed]
    assert stand.answer.requests[0].sampling.top_logprobs == 1
    assert whole.choices[0].logprobs is not None
    listed = whole.choices[0].logprobs.content or []
    assert b"".join(bytes(item.bytes or []) for item in listed) == "ö!".encode()
    assert [item.logprob for item in listed] == [-0.5, -0.25, 0.0]
    assert [(other.token, other.logprob) for other in listed[1].top_logprobs] == [("x", -0.125)]
    joined = [
        item
        for piece in pieces
        if piece.choices and piece.choices[0].logprobs
        for item in piece.choices[0].logprobs.content or []
    ]
    assert [item.model_dump() for item in joined] == [item.model_dump() for item in listed]


async def test_logprobs_of_no_content_are_an_empty_list(make_gateway: Any) -> None:
    async with make_gateway(script=(ChatDelta(reasoning="hm"), FINISHED), metadata=CAPABLE) as stand:
        asked = (await (await stand.chat(logprobs=True)).json())["choices"][0]
        plain = (await (await stand.chat()).json())["choices"][0]
    assert asked["logprobs"] == {"content": [], "refusal": None}
    assert plain["logprobs"] is None
    assert asked["message"]["content"] == ""


CALLS = (
    ChatDelta(tool_calls=(ToolCallDelta(index=0, id="functions.f:0", name="f"),)),
    ChatDelta(tool_calls=(ToolCallDelta(index=0, arguments="{"), ToolCallDelta(index=1, id="functions.f:1", name="f"))),
    ChatDelta(tool_calls=(ToolCallDelta(index=0, arguments="}"), ToolCallDelta(index=1, arguments='{"cut'))),
    ChatDelta(tool_calls=(ToolCallDelta(index=1, incomplete=True),)),
    ChatFinished(finish_reason="tool_calls", usage=Usage(prompt_tokens=1, completion_tokens=9)),
)
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("stream", [False, True])
async def test_without_parallel_calls_there_is_one(make_gateway: Any, stream: bool) -> None:
    async with make_gateway(script=CALLS, metadata=CAPABLE) as stand:
        response = await stand.chat(tools=TOOLS, parallel_tool_calls=False, stream=stream)
        if stream:
            deltas = [choice["delta"] for chunk in await chunks(response) for choice in chunk["choices"]]
            assert {call["index"] for delta in deltas for call in delta.get("tool_calls", ())} == {0}
        else:
            (call,) = (await response.json())["choices"][0]["message"]["tool_calls"]
            assert call["function"] == {"name": "f", "arguments": "{}"}


async def test_a_call_that_was_cut_off_says_so(make_gateway: Any) -> None:
    async with make_gateway(script=CALLS, metadata=CAPABLE) as stand:
        whole = (await (await stand.chat(tools=TOOLS)).json())["choices"][0]["message"]
        stream = await chunks(await stand.chat(tools=TOOLS, stream=True))
    assert whole["content"] is None
    assert [call.get("incomplete", False) for call in whole["tool_calls"]] == [False, True]
    cut = [
        call["index"]
        for chunk in stream
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
        if call.get("incomplete")
    ]
    assert cut == [1]
