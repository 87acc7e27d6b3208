"""A well-behaved endpoint, and harmless habits of others: the right answer, streamed as unstreamed."""

import json
from typing import Any

import msgspec
import pytest

from schemas.chat import Message, Sampling, TextPart, ToolCall
from schemas.codec import encode
from shared.errors import BadInput
from tests.endpoints.scripted import Script, example, serving
from tests.endpoints.stands import Heard, request, stand, user

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


async def heard(script: Script, chat: Any = None, **options: Any) -> Heard:
    async with serving(script) as endpoint, stand(endpoint.url, **options) as one:
        return await one.ask(chat)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "both"])
async def test_reasoning_arrives_once_under_either_name(field: Any) -> None:
    answer = await heard(Script(reasoning_field=field))
    assert answer.reasoning == "Let me think about that.  "
    assert answer.content == "You said “hello” and sent 0 images and 0 videos. — ✓ done 🎞"
    assert answer.finished is not None
    assert answer.finished.finish_reason == "stop"
    assert answer.finished.usage.prompt_tokens > 0
    assert (answer.finished.usage.cached_tokens, answer.finished.usage.reasoning_tokens) == (2, 7)


@pytest.mark.parametrize("ask", ["hello", "call it", "call all"])
async def test_streamed_equals_unstreamed(ask: str) -> None:
    chat = request(user(ask), tools=[WEATHER, CLOCK])
    streamed = await heard(Script(), chat, tools_streaming="always")
    unstreamed = await heard(Script(), chat, tools_streaming="never")
    ignored = await heard(Script(defects=frozenset(("ignores_stream",))), chat, tools_streaming="always")
    assert streamed.finished is not None
    for other in (unstreamed, ignored):
        assert other.finished is not None
        assert (other.reasoning, other.content, other.calls) == (streamed.reasoning, streamed.content, streamed.calls)
        assert (other.finished.finish_reason, other.finished.usage) == (
            streamed.finished.finish_reason,
            streamed.finished.usage,
        )


@pytest.mark.parametrize("lump", [False, True])
async def test_tool_calls_arrive_whole_in_pieces_and_in_one_lump(lump: bool) -> None:
    answer = await heard(Script(lump=lump), request(user("call all"), tools=[WEATHER, CLOCK]))
    assert answer.finished is not None
    assert answer.finished.finish_reason == "tool_calls"
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [
        ("get_weather", {"city": "x", "days": 1}),
        ("clock", {}),
    ]
    assert len({call.id for call in answer.calls}) == 2


async def test_many_schemas_arrive_as_they_were_meant() -> None:
    kinds: list[Any] = [
        {"type": "string", "minLength": 3},
        {"type": "integer", "minimum": 4},
        {"type": ["number", "null"]},
        {"enum": ["a", 2, None]},
        {"const": {"deep": [1]}},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]},
        {"$ref": "#/$defs/inner"},
        {"type": "string", "pattern": "^(a+)+$"},
    ]
    async with serving() as endpoint, stand(endpoint.url) as one:
        for kind in kinds:
            schema = {
                "type": "object",
                "properties": {"value": kind},
                "required": ["value"],
                "additionalProperties": False,
            }
            schema["$defs"] = {"inner": {"type": "object"}}
            tool = {"type": "function", "function": {"name": "take", "parameters": schema}}
            answer = await one.ask(request(user("call"), tools=[tool]))
            assert json.loads(answer.calls[0].arguments) == example(schema)
    assert len(endpoint.requests) == len(kinds)


async def test_the_request_says_what_the_chat_says() -> None:
    call = ToolCall(id="functions.clock:0", name="clock", arguments="{}")
    history = (
        encode(Message(role="system", content=(TextPart(text="Be brief."),))),
        user("what time?"),
        encode(Message(role="assistant", reasoning="look", tool_calls=(call,))),
        encode(Message(role="tool", content=(TextPart(text="noon"),), tool_call_id=call.id)),
    )
    sampling = Sampling(temperature=0.5, top_p=0.9, seed=7, max_tokens=3, stop=("END",))
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    chat = request(*history, tools=[CLOCK], sampling=sampling, tool_choice=b'"none"', thinking=False)
    chat = msgspec.structs.replace(chat, response_format=msgspec.json.encode(schema))
    async with serving() as endpoint, stand(endpoint.url, thinking_switch="moonshot") as one:
        answer = await one.ask(chat)
    (sent,) = endpoint.requests
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what time?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "look",
            "tool_calls": [{"id": call.id, "type": "function", "function": {"name": "clock", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "noon", "tool_call_id": call.id},
    ]
    assert (sent["temperature"], sent["top_p"], sent["seed"], sent["max_tokens"], sent["stop"]) == (
        0.5,
        0.9,
        7,
        3,
        ["END"],
    )
    assert (sent["tools"], sent["tool_choice"], sent["response_format"]) == ([CLOCK], "none", schema)
    assert sent["thinking"] == {"type": "disabled"}
    assert answer.reasoning == ""


async def test_a_schema_answer_is_passed_on() -> None:
    wanted = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": wanted}}
    answer = await heard(Script(), request(response_format=msgspec.json.encode(form)))
    assert json.loads(answer.content) == {"ok": True}


async def test_the_length_limit_is_told() -> None:
    answer = await heard(Script(), request(sampling=Sampling(max_tokens=2)))
    assert answer.finished is not None
    assert (answer.content, answer.finished.finish_reason) == ("You said", "length")


@pytest.mark.parametrize("habit", ["no_done", "no_usage"])
async def test_habits_that_take_nothing_from_the_answer(habit: str) -> None:
    answer = await heard(Script(defects=frozenset((habit,))))
    assert answer.content.endswith("done 🎞")
    assert answer.finished is not None


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, "text", {"properties": []}])
async def test_a_tool_whose_schema_is_none_is_refused_before_anybody_is_asked(schema: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    async with serving() as endpoint, stand(endpoint.url) as one:
        with pytest.raises(BadInput, match=r"tools\[0\]"):
            await one.ask(request(tools=[tool]))
    assert endpoint.requests == []


async def test_a_schema_is_never_fetched_and_its_expressions_never_run() -> None:
    slow = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "^(x+)+y$", "minLength": 40}},
        "required": ["x"],
    }
    far = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:1/schema"}}, "required": ["x"]}
    for schema in (slow, far):
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        answer = await heard(Script(), request(user("call"), tools=[tool]))
        assert answer.calls[0].name == "f"
