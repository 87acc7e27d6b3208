"""Every body that cannot be used is a 400 that names the field; what OpenAI clients send is accepted."""

import json
from typing import Any

import pytest

from services.gateway import chat_body, chat_rules
from services.gateway.capabilities import check_served
from services.gateway.chat_request import sampling, tools_of
from services.gateway.models import ModelEntry, Target
from shared.errors import BadInput

HELLO = {"role": "user", "content": "hi"}
ASKED = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}
PREFIX = {"role": "assistant", "content": "x", "partial": True}
CALL = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


JSON_SCHEMA = "response_format.json_schema"
PARAMETERS = "tools[0].function.parameters"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": [HELLO]} | fields).encode()


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def choice(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def parameters(schema: Any) -> bytes:
    return body(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])


def json_schema(schema: Any, name: str = "n") -> bytes:
    return body(response_format={"type": "json_schema", "json_schema": {"name": name, "schema": schema}})


def with_content(*parts: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts)}])


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (body(user="x", tools=[named("f")]).replace(b'"f"', b'"f", "note": "\xff"'), None),
        (body(**{"": 1}), '[""]'),
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
        (body(messages=[HELLO, {"role": "tool", "content": "x", "tool_call_id": "c"}]), "messages[1].tool_call_id"),
        (body(messages=[ASKED, {"role": "tool", "content": "x", "tool_call_id": "d"}]), "messages[1].tool_call_id"),
        (body(messages=[ASKED, {"role": "tool", "content": "x", "tool_call_id": ""}]), "messages[1].tool_call_id"),
        (body(messages=[ASKED, {"role": "tool", "tool_call_id": "c"}]), "messages[1].content"),
        (body(messages=[{**ASKED, "tool_calls": [{"function": CALL["function"]}]}]), "messages[0].tool_calls[0].id"),
        (
            body(messages=[{**ASKED, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (body(messages=[HELLO, {"role": "assistant"}]), "messages[1].content"),
        (body(messages=[HELLO, {"role": "assistant", "content": None, "tool_calls": []}]), "messages[1].content"),
        (body(messages=[{**HELLO, "name": "<|im_end|>"}]), "messages[0].name"),
        (body(messages=[{**HELLO, "name": "x" * 65}]), "messages[0].name"),
        (body(messages=[{**HELLO, "partial": True}]), "messages[0].partial"),
        (body(messages=[PREFIX, HELLO]), "messages[0].partial"),
        (body(messages=[HELLO, {**ASKED, "partial": True}]), "messages[1].partial"),
        (body(messages=[HELLO, PREFIX], response_format={"type": "json_object"}), "messages[1].partial"),
        (body(messages=[HELLO, PREFIX], tools=[TOOL], tool_choice="required"), "messages[1].partial"),
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
        (body(thinking={"budget_tokens": 0}), "thinking.budget_tokens"),
        (body(thinking={"type": "disabled", "budget_tokens": 9}), "thinking.budget_tokens"),
        (body(reasoning_effort="huge"), "reasoning_effort"),
        (body(n=0), "n"),
        (body(n=9), "n"),
        (body(presence_penalty=2.5), "presence_penalty"),
        (body(frequency_penalty=-3), "frequency_penalty"),
        (body(repetition_penalty=0), "repetition_penalty"),
        (body(top_k=-1), "top_k"),
        (body(min_p=1.5), "min_p"),
        (body(logprobs=1), "logprobs"),
        (body(logprobs=True, top_logprobs=21), "top_logprobs"),
        (body(top_logprobs=2), "top_logprobs"),
        (body(logprobs=False, top_logprobs=0), "top_logprobs"),
        (body(logit_bias={"moon": 1}), "logit_bias"),
        (body(logit_bias={"5": 101}), "logit_bias[...]"),
        (body(logit_bias={str(number): 1 for number in range(1025)}), "logit_bias"),
        (body(modalities=["audio"]), "modalities[0]"),
        (body(prompt_cache_key="k" * 257), "prompt_cache_key"),
        (body(response_format={"type": "yaml"}), "response_format.type"),
        (body(response_format="text"), "response_format"),
        (body(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (body(response_format={"type": "json_schema", "json_schema": {"name": "n"}}), JSON_SCHEMA + ".schema"),
        (json_schema(True, name="n n"), JSON_SCHEMA + ".name"),
        (json_schema({"type": "tree"}), JSON_SCHEMA + ".schema.type"),
        (json_schema({"anyOf": []}), JSON_SCHEMA + ".schema.anyOf"),
        (json_schema({"pattern": "("}), JSON_SCHEMA + ".schema.pattern"),
        (body(tools={}), "tools"),
        (body(tools=[{"type": "function"}]), "tools[0].function"),
        (body(tools=[{"type": "oven", "function": {"name": "f"}}]), "tools[0].type"),
        (body(tools=[TOOL, {"type": "function", "function": {"name": "f g"}}]), "tools[1].function.name"),
        (body(tools=[named("f\n")]), "tools[0].function.name"),
        (body(tools=[named("x" * 65)]), "tools[0].function.name"),
        (body(tools=[named("$web_search")]), "tools[0].function.name"),
        (body(tools=[{"type": "builtin_function", "function": {"name": "web"}}]), "tools[0].function.name"),
        (body(tools=[TOOL, TOOL]), "tools[1].function.name"),
        (body(tools=[named(f"f{number}") for number in range(129)]), "tools"),
        (body(tools=[{**TOOL, "function": {"name": "f", "parameters": []}}]), "tools[0].function.parameters"),
        (parameters({"type": "array"}), "tools[0].function.parameters.type"),
        (parameters({"properties": {"a": {"type": "strin"}}}), PARAMETERS + ".properties.a.type"),
        (parameters({"properties": {"a": {"$ref": "#/$defs/b"}}}), PARAMETERS + ".properties.a.$ref"),
        (parameters({"properties": {"a": {"$ref": "http://x/y"}}}), PARAMETERS + ".properties.a.$ref"),
        (parameters({"description": "x" * 262_144}), PARAMETERS),
        (parameters({"minLength": -1}), PARAMETERS + ".minLength"),
        (body(tools=[TOOL], tool_choice=5), "tool_choice"),
        (body(tools=[TOOL], tool_choice="maybe"), "tool_choice"),
        (body(tools=[TOOL], tool_choice={"type": "function"}), "tool_choice.function"),
        (body(tools=[TOOL], tool_choice=choice("g")), "tool_choice.function.name"),
        (body(tool_choice=choice("f")), "tool_choice.function.name"),
        (body(tool_choice="required"), "tool_choice"),
        (body(tools=[], tool_choice="required"), "tool_choice"),
        (body(parallel_tool_calls="no"), "parallel_tool_calls"),
        (body(metadata={"a": 1}), "metadata[...]"),
        (body(max_token=5), "max_token"),
    ],
)
def test_a_bad_body_names_its_field(data: bytes, param: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        chat_rules.read(data)
    assert caught.value.status == 400
    assert caught.value.param == param
    assert param is None or param in caught.value.message


def test_what_clients_send_is_accepted() -> None:
    parsed = chat_rules.read(
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
            n=2,
            reasoning_effort="high",
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
    parsed = chat_rules.read(body(**fields))
    assert (chat_body.thinks(parsed), chat_body.keeps_thinking(parsed)) == (thinks, keeps)


def target(*capabilities: str) -> Target:
    return Target(ModelEntry(id="tiny", capabilities=capabilities))


@pytest.mark.parametrize("fields", [{}, {"tools": None}, {"tools": []}, {"tools": [], "tool_choice": "none"}])
def test_no_tools(fields: dict[str, Any]) -> None:
    assert tools_of(chat_rules.read(body(**fields)), target()) == (b"", b"")


def test_what_may_not_be_called_is_shown_where_the_model_keeps_the_choice() -> None:
    parsed = chat_rules.read(body(tools=[TOOL], tool_choice="none"))
    assert tools_of(parsed, target("tools")) == (b"", b"")
    assert tools_of(parsed, target("tools", "tool_choice")) == (json.dumps([TOOL]).encode(), b'"none"')


IMAGE = {"type": "image_url", "image_url": "data:image/png;base64,AA=="}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
EVERYTHING = frozenset(
    {"image", "video", "tools", "tool_choice", "response_format", "sampling", "logprobs", "partial", "thinking_budget"}
)


@pytest.mark.parametrize(
    ("fields", "param", "capability"),
    [
        ({"tools": [TOOL]}, "tools", "tools"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "tool_choice"),
        ({"response_format": SCHEMA}, "response_format.type", "response_format"),
        ({"messages": [HELLO, {"role": "user", "content": [IMAGE]}]}, "messages[1].content[0]", "image"),
        ({"messages": [HELLO, PREFIX]}, "messages[1].partial", "partial"),
        ({"logprobs": True}, "logprobs", "logprobs"),
        ({"thinking": {"budget_tokens": 5}}, "thinking.budget_tokens", "thinking_budget"),
        ({"top_k": 5}, "top_k", "sampling"),
        ({"min_p": 0.5}, "min_p", "sampling"),
        ({"presence_penalty": 0.5}, "presence_penalty", "sampling"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "sampling"),
        ({"repetition_penalty": 1.5}, "repetition_penalty", "sampling"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "sampling"),
    ],
)
def test_what_a_model_does_not_announce_is_refused_by_name(fields: dict[str, Any], param: str, capability: str) -> None:
    parsed = chat_rules.read(body(**fields))
    check_served(parsed, EVERYTHING)
    with pytest.raises(BadInput) as caught:
        check_served(parsed, EVERYTHING - {capability})
    assert caught.value.param == param


def test_neutral_values_need_nothing() -> None:
    neutral: dict[str, Any] = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1}
    neutral |= {"top_k": 0, "min_p": 0, "logit_bias": {}, "logprobs": False, "response_format": {"type": "text"}}
    check_served(chat_rules.read(body(**neutral)), frozenset({"thinking"}))


@pytest.mark.parametrize("capability", ["response_format", "json_schema", "grammar"])
def test_any_way_to_keep_a_format_is_enough(capability: str) -> None:
    check_served(chat_rules.read(body(response_format=SCHEMA)), frozenset({capability}))


def test_formats_and_choices_travel_as_they_were_sent() -> None:
    parsed = chat_rules.read(body(response_format=SCHEMA, tools=[TOOL], tool_choice="required"))
    assert json.loads(chat_body.response_format(parsed)) == SCHEMA
    assert chat_body.tool_choice(parsed) == b'"required"'
    one = chat_rules.read(body(tools=[TOOL], tool_choice=choice("f")))
    assert json.loads(chat_body.tool_choice(one)) == choice("f")
    plain = chat_rules.read(body(response_format={"type": "text"}, tools=[TOOL], tool_choice="auto"))
    assert (chat_body.response_format(plain), chat_body.tool_choice(plain)) == (b"", b"")


def test_sampling_travels() -> None:
    fields: dict[str, Any] = {"top_k": 5, "min_p": 0.25, "presence_penalty": 1, "frequency_penalty": -1}
    fields |= {"repetition_penalty": 1.5, "logprobs": True, "top_logprobs": 3, "logit_bias": {"70": -2, "5": 1.5}}
    drawn = sampling(chat_rules.read(body(**fields)))
    assert (drawn.top_k, drawn.min_p, drawn.presence_penalty, drawn.frequency_penalty) == (5, 0.25, 1.0, -1.0)
    assert (drawn.repetition_penalty, drawn.top_logprobs) == (1.5, 3)
    assert drawn.logit_bias == ((5, 1.5), (70, -2.0))
    assert sampling(chat_rules.read(body(logprobs=True))).top_logprobs == 0
    assert sampling(chat_rules.read(body())).top_logprobs is None


TREE = {
    "type": "object",
    "properties": {"left": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}, "again": {"$ref": "#"}},
    "$defs": {"node": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node~1x"}]}, "node/x": True},
    "default": {"$ref": "anything"},
    "enum": [{"$ref": 5}],
}


def test_schemas_may_refer_to_themselves() -> None:
    chat_rules.read(parameters(TREE))
    chat_rules.read(json_schema(TREE))
    chat_rules.read(json_schema(False))


def test_a_schema_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"properties": {"a": deep}}
    with pytest.raises(BadInput) as caught:
        chat_rules.read(parameters(deep))
    assert (caught.value.param or "").startswith(PARAMETERS)
