"""Every body that cannot be used is a 400 that names the field; what OpenAI clients send is accepted."""

import json
from typing import Any

import pytest

from services.gateway import chat_body
from services.gateway.chat_request import sampling
from shared.errors import BadInput

HELLO = {"role": "user", "content": "hi"}
CALL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": [HELLO]} | fields).encode()


def with_content(*parts: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts)}])


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b"null", None),
        (b"[]", None),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', "model"),
        (b'{"model": "tiny"}', "messages"),
        (body(model=7), "model"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=[HELLO, {"content": "hi"}]), "messages[1].role"),
        (body(messages=[{"role": "wizard", "content": "hi"}]), "messages[0].role"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        (body(messages=[{**HELLO, "tool_calls": [CALL]}]), "messages[0].tool_calls"),
        (body(messages=[{"role": "assistant", "content": "x", "partial": True}]), "messages[0].partial"),
        (with_content("hi"), "messages[0].content[0]"),
        (with_content({"type": "text"}), "messages[0].content[0].text"),
        (with_content({"type": "smell", "smell": "x"}), "messages[0].content[0].type"),
        (with_content({"type": "image_url"}), "messages[0].content[0].image_url"),
        (with_content({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (with_content({"type": "video_url", "video_url": 3}), "messages[0].content[0].video_url"),
        (with_content({"type": "file", "file": {"file_data": "x"}}), "messages[0].content[0].file.file_id"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=2.5), "temperature"),
        (body(temperature=-0.1), "temperature"),
        (body(top_p=0), "top_p"),
        (body(top_p=1.01), "top_p"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_completion_tokens=1.5), "max_completion_tokens"),
        (body(seed="x"), "seed"),
        (body(seed=2**63), "seed"),
        (body(stop=["a"] * 6), "stop"),
        (body(stop=""), "stop"),
        (body(stop="ö" * 17), "stop"),
        (body(stop=[1]), "stop[0]"),
        (body(stream="yes"), "stream"),
        (body(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body(thinking={"type": "maybe"}), "thinking.type"),
        (body(thinking={"keep": "some"}), "thinking.keep"),
        (body(thinking={"budget": 1}), "thinking.budget"),
        (body(chat_template_kwargs={"loud": True}), "chat_template_kwargs.loud"),
        (
            body(thinking={"type": "disabled"}, chat_template_kwargs={"thinking": True}),
            "chat_template_kwargs.thinking",
        ),
        (body(n=2), "n"),
        (body(presence_penalty=0.5), "presence_penalty"),
        (body(frequency_penalty=-1), "frequency_penalty"),
        (body(logprobs=True), "logprobs"),
        (body(logit_bias={"5": 1}), "logit_bias"),
        (body(modalities=["audio"]), "modalities"),
        (body(response_format={"type": "yaml"}), "response_format.type"),
        (body(response_format="text"), "response_format"),
        (body(tools={}), "tools"),
        (body(tools=[{"type": "function"}]), "tools[0].function"),
        (body(tools=[TOOL, {"type": "function", "function": {"name": "f g"}}]), "tools[1].function.name"),
        (body(tools=[TOOL] * 129), "tools"),
        (body(tools=[TOOL], tool_choice=5), "tool_choice"),
        (body(metadata={"a": 1}), "metadata[...]"),
        (body(max_token=5), "max_token"),
    ],
)
def test_a_bad_body_names_its_field(data: bytes, param: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        chat_body.parse(data)
    assert caught.value.status == 400
    assert caught.value.param == param
    assert param is None or param in caught.value.message


def test_what_clients_send_is_accepted() -> None:
    parsed = chat_body.parse(
        body(
            messages=[
                {"role": "developer", "content": "be brief"},
                HELLO,
                {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL], "reasoning_content": "r"},
                {"role": "tool", "tool_call_id": "call_0", "content": [{"type": "text", "text": "done"}]},
            ],
            temperature=1,
            top_p=0.95,
            max_tokens=10,
            max_completion_tokens=20,
            stop=["a", "ö" * 16],
            seed=-1,
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False},
            user="u",
            metadata={"k": "v"},
            prompt_cache_key="k",
            safety_identifier="s",
            store=False,
            parallel_tool_calls=True,
            thinking={"type": "enabled", "keep": "all"},
            chat_template_kwargs={"thinking": True},
            tools=[TOOL],
            tool_choice="auto",
            response_format={"type": "text"},
            n=1,
            presence_penalty=0,
            frequency_penalty=0.0,
            logprobs=False,
            logit_bias={},
        )
    )
    drawn = sampling(parsed)
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens, drawn.seed) == (1.0, 0.95, 20, -1)
    assert drawn.stop == ("a", "ö" * 16)
    assert chat_body.thinks(parsed)
    assert chat_body.keeps_thinking(parsed)
    assert json.loads(chat_body.tools(parsed)) == [TOOL]


@pytest.mark.parametrize(
    ("fields", "thinks", "keeps"),
    [
        ({}, True, False),
        ({"thinking": {"type": "disabled"}}, False, False),
        ({"thinking": {"type": "enabled", "keep": None}}, True, False),
        ({"chat_template_kwargs": {"thinking": False}}, False, False),
        ({"chat_template_kwargs": {"thinking": True, "preserve_thinking": True}}, True, True),
    ],
)
def test_thinking(fields: dict[str, Any], thinks: bool, keeps: bool) -> None:
    parsed = chat_body.parse(body(**fields))
    assert (chat_body.thinks(parsed), chat_body.keeps_thinking(parsed)) == (thinks, keeps)


@pytest.mark.parametrize("fields", [{}, {"tools": None}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}])
def test_no_tools(fields: dict[str, Any]) -> None:
    assert chat_body.tools(chat_body.parse(body(**fields))) == b""


IMAGE = {"type": "image_url", "image_url": "data:image/png;base64,AA=="}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "param", "capability"),
    [
        ({"tools": [TOOL]}, "tools", "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "tool_choice"),
        ({"response_format": SCHEMA}, "response_format.type", "response_format"),
        ({"messages": [HELLO, {"role": "user", "content": [IMAGE]}]}, "messages[1].content[0]", "image"),
    ],
)
def test_what_a_model_does_not_announce_is_refused_by_name(fields: dict[str, Any], param: str, capability: str) -> None:
    parsed = chat_body.parse(body(**fields))
    everything = {"image", "video", "tools", "tool_choice", "response_format"}
    chat_body.check_served(parsed, frozenset(everything))
    with pytest.raises(BadInput) as caught:
        chat_body.check_served(parsed, frozenset(everything - {capability}))
    assert caught.value.param == param


def test_formats_and_choices_travel_as_they_were_sent() -> None:
    parsed = chat_body.parse(body(response_format=SCHEMA, tools=[TOOL], tool_choice="required"))
    assert json.loads(chat_body.response_format(parsed)) == SCHEMA
    assert chat_body.tool_choice(parsed) == b'"required"'
    plain = chat_body.parse(body(response_format={"type": "text"}, tools=[TOOL], tool_choice="auto"))
    assert (chat_body.response_format(plain), chat_body.tool_choice(plain)) == (b"", b"")
