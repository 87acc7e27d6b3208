"""Moonshot's rules over HTTP, one row each: a refusal names its field, dispatches nothing and records nothing; what is
just within a rule is served; answers have the promised form."""

import json
from typing import Any

import msgspec
import pytest

from schemas.chat import ChatDelta, ToolCallDelta
from shared.errors import BadInput
from tests.unit.gateway.conftest import FINISHED, refusing

CAPABLE = {
    "capabilities": "image,video,thinking,thinking_budget,tools,tool_choice,grammar,response_format,sampling,logprobs"
}
HELLO = {"role": "user", "content": "hi"}
CALL = {"id": "functions.find:0", "type": "function", "function": {"name": "find", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": CALL["id"], "content": "there"}


def tool(name: str = "find", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | function}


def form(schema: Any, **rest: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema} | rest}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "0.6"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": -1}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": "1"}, "n"),
    ({"n": True}, "n"),
    ({"n": 9}, "n"),
    ({"presence_penalty": 2.1}, "presence_penalty"),
    ({"frequency_penalty": -2.1}, "frequency_penalty"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "9"}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"stop": ["a", "b", "c", "d", "e", "f"]}, "stop"),
    ({"stop": ["x" * 33]}, "stop"),
    ({"stop": "ö" * 17}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stop": 7}, "stop"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"tools": [tool(f"find_{number}") for number in range(129)]}, "tools"),
    ({"tools": {"find": {}}}, "tools"),
    ({"tools": [tool("find it")]}, "tools[0].function.name"),
    ({"tools": [tool("9lives")]}, "tools[0].function.name"),
    ({"tools": [tool("")]}, "tools[0].function.name"),
    ({"tools": [tool("x" * 65)]}, "tools[0].function.name"),
    ({"tools": [tool(), tool()]}, "tools[1].function.name"),
    ({"tools": [tool(strict="very")]}, "tools[0].function.strict"),
    ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters.type"),
    ({"tools": [tool(parameters={"required": "a"})]}, "tools[0].function.parameters.required"),
    (
        {"tools": [tool(parameters={"properties": {"a": {"$ref": "#/$defs/b"}}})]},
        "tools[0].function.parameters.properties.a.$ref",
    ),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "required", "tools": []}, "tool_choice"),
    ({"tool_choice": "any", "tools": [tool()]}, "tool_choice"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "other"}}, "tools": [tool()]},
        "tool_choice.function.name",
    ),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": form({"type": "thing"})}, "response_format.json_schema.schema.type"),
    ({"response_format": form({}, strict=1)}, "response_format.json_schema.strict"),
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
    ({"messages": [HELLO, {"role": "function", "content": "hi", "name": "f"}]}, "messages[1].role"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"messages": [HELLO, {"role": "tool", "content": "there"}]}, "messages[1].tool_call_id"),
    (
        {"messages": [HELLO, ASKED | {"reasoning_content": ""}, FOUND | {"tool_call_id": ""}]},
        "messages[2].tool_call_id",
    ),
    (
        {"messages": [HELLO, ASKED | {"reasoning_content": ""}, FOUND | {"tool_call_id": "other"}]},
        "messages[2].tool_call_id",
    ),
    ({"messages": [HELLO, {"role": "assistant", "content": "x", "partial": True}, HELLO]}, "messages[1].partial"),
    ({"thinking": {"type": "auto"}}, "thinking.type"),
    ({"thinking": {"type": "enabled", "keep": "last"}}, "thinking.keep"),
    ({"thinking": {"type": "enabled", "effort": 1}}, "thinking.effort"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"stream": "true"}, "stream"),
    ({"max_output": 3}, "max_output"),
]
REFUSED_BY_KIMI: list[tuple[dict[str, Any], str]] = [
    *(({"temperature": value}, "temperature") for value in (0.1, 0.59, 0.7, 0.99, 1.01, 2)),
    *(({"top_p": value}, "top_p") for value in (0.1, 0.94, 1)),
    *(({"n": value}, "n") for value in (2, 8)),
    *(({name: value}, name) for name in ("presence_penalty", "frequency_penalty") for value in (-2, 0.1, 2)),
    ({"tools": [tool("ab")]}, "tools[0].function.name"),
    ({"messages": [HELLO, ASKED, FOUND]}, "messages[1].reasoning_content"),
    ({"messages": [HELLO, ASKED | {"reasoning_content": None}, FOUND]}, "messages[1].reasoning_content"),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.budget_tokens"),
]
SERVED_BY_KIMI: list[dict[str, Any]] = [
    *({"temperature": value} for value in (0, 0.6, 1, 1.0)),
    {"top_p": 0.95, "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0},
    {"stop": ["x" * 32, "ö" * 16, "c", "d", "e"]},
    {"logprobs": True, "top_logprobs": 20},
    {"tools": [tool(f"find_{number}") for number in range(128)]},
    {"tools": [tool("abc"), tool("x" * 64), tool("_a-b_9")], "tool_choice": "required"},
    {"tools": [tool(strict=False)], "tool_choice": {"type": "function", "function": {"name": "find"}}},
    {"response_format": form({"type": "object"}, strict=True)},
    {"messages": [HELLO, ASKED | {"reasoning_content": ""}, FOUND]},
    {"messages": [HELLO, ASKED, FOUND], "thinking": {"type": "disabled"}},
    {"max_tokens": 1},
]


async def _check_refused(stand: Any, fields: dict[str, Any], param: str) -> None:
    for stream in (False, True) if "stream" not in fields else (False,):
        response = await stand.chat(**{"stream": stream} | fields)
        error = (await response.json())["error"]
        assert (response.status, error["type"], error["param"]) == (400, "invalid_request_error", param), fields
        assert param in error["message"]


@pytest.mark.parametrize("mode", ["open", "kimi"])
async def test_each_refusal_is_a_400_that_names_the_field(make_gateway: Any, mode: str) -> None:
    async with make_gateway(sampling=mode, metadata=CAPABLE) as stand:
        for fields, param in REFUSED:
            await _check_refused(stand, fields, param)
        assert (stand.answer.requests, stand.events()) == ([], [])


async def test_what_only_kimi_refuses(make_gateway: Any) -> None:
    async with make_gateway(sampling="kimi", metadata=CAPABLE) as stand:
        for fields, param in REFUSED_BY_KIMI:
            await _check_refused(stand, fields, param)
        assert (stand.answer.requests, stand.events()) == ([], [])
    async with make_gateway(sampling="open", metadata=CAPABLE) as stand:
        for fields, _ in REFUSED_BY_KIMI:
            response = await stand.chat(**fields)
            assert response.status == 200, (fields, await response.text())


@pytest.mark.parametrize("mode", ["open", "kimi"])
async def test_what_is_just_within_the_rules_is_served(make_gateway: Any, mode: str) -> None:
    async with make_gateway(sampling=mode, metadata=CAPABLE) as stand:
        for fields in SERVED_BY_KIMI:
            response = await stand.chat(**fields)
            assert response.status == 200, (fields, await response.text())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_beyond_the_context_is_a_400(make_gateway: Any, stream: bool) -> None:
    refusal = BadInput("chat.context_overflow", "the prompt has 9 tokens, and the context holds 8", param="messages")
    async with make_gateway(script=refusing(refusal)) as stand:
        response = await stand.chat(stream=stream)
        error = (await response.json())["error"]
    assert (response.status, error["type"], error["param"]) == (400, "invalid_request_error", "messages")


ONE_CALL = ChatDelta(tool_calls=(ToolCallDelta(index=0, id="functions.find:0", name="find", arguments="{}"),))


@pytest.mark.parametrize(
    ("deltas", "content"),
    [
        ((), ""),
        ((ChatDelta(reasoning="hm"),), ""),
        ((ChatDelta(content="so"),), "so"),
        ((ONE_CALL,), None),
        ((ChatDelta(content="so"), ONE_CALL), "so"),
    ],
)
async def test_content_is_a_string_unless_there_are_calls(
    make_gateway: Any, deltas: tuple[ChatDelta, ...], content: str | None
) -> None:
    async with make_gateway(script=(*deltas, FINISHED)) as stand:
        message = (await (await stand.chat()).json())["choices"][0]["message"]
    assert message["content"] == content
    assert message.get("reasoning") == message.get("reasoning_content")


async def _chunks(stand: Any, **fields: Any) -> list[dict[str, Any]]:
    text = await (await stand.chat(stream=True, **fields)).text()
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def test_usage_is_exact_and_has_both_names_for_what_was_cached(make_gateway: Any) -> None:
    usage = msgspec.structs.replace(FINISHED.usage, prompt_tokens=900, completion_tokens=41, cached_tokens=512)
    script = (ChatDelta(reasoning="hm"), ChatDelta(content="so"), msgspec.structs.replace(FINISHED, usage=usage))
    async with make_gateway(script=script) as stand:
        whole = (await (await stand.chat()).json())["usage"]
        asked = await _chunks(stand, stream_options={"include_usage": True})
        plain = await _chunks(stand)
    assert (whole["prompt_tokens"], whole["completion_tokens"], whole["total_tokens"]) == (900, 41, 941)
    assert whole["cached_tokens"] == whole["prompt_tokens_details"]["cached_tokens"] == 512
    assert (asked[-1]["choices"], asked[-1]["usage"]) == ([], whole)
    assert [chunk["choices"][0].get("usage") for chunk in asked[-2:-1] + plain[-1:]] == [whole, whole]
    assert [chunk for chunk in asked[:-1] + plain if chunk.get("usage")] == []
    for name in ("reasoning", "reasoning_content"):
        assert "".join(chunk["choices"][0]["delta"].get(name, "") for chunk in plain) == "hm"
