"""Kimi's own rules: fixed sampling where it is asked for, names of variants, token counts, and its clients' bodies."""

import json
from typing import Any

import pytest

from schemas import codec
from schemas.chat import ModelVariant, TokensCounted
from services.gateway import chat_rules
from services.gateway.chat_request import sampling, thinking_budget, thinks
from services.gateway.models import ModelEntry, Target
from shared.errors import BadInput
from tests.unit.gateway.conftest import MODEL, refusing

HELLO = {"role": "user", "content": "hi"}
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
CALL = {"id": "functions.$web_search:0", "type": "builtin_function"}
CALL |= {"function": {"name": "$web_search", "arguments": '{"query": "moon"}'}}
ASKED = {"role": "assistant", "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": CALL["id"], "name": "$web_search", "content": '{"query": "moon"}'}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [HELLO]} | fields).encode()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"temperature": 1.1}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_p": 1}, "top_p"),
        ({"n": 2}, "n"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": -0.1}, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"top_k": 1}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "ab"}}]}, "tools[0].function.name"),
    ],
)
def test_fixed_values_are_fixed_in_kimi_mode_only(fields: dict[str, Any], param: str) -> None:
    chat_rules.read(body(**fields))
    with pytest.raises(BadInput) as caught:
        chat_rules.read(body(**fields), "kimi")
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


@pytest.mark.parametrize("temperature", [0, 0.6, 1, 1.0, None])
def test_the_fixed_values_themselves_are_taken(temperature: float | None) -> None:
    fixed: dict[str, Any] = {"temperature": temperature, "top_p": 0.95, "n": 1}
    chat_rules.read(body(**fixed, presence_penalty=0, frequency_penalty=0.0, logit_bias={}), "kimi")


async def test_reasoning_must_be_sent_back_while_thinking_in_kimi_mode(make_gateway: Any) -> None:
    silent = [HELLO, ASKED, FOUND]
    for field in ("reasoning_content", "reasoning"):
        empty = [HELLO, ASKED | {field: ""}, FOUND]
        async with make_gateway(sampling="kimi") as stand:
            refused = await stand.chat(messages=silent)
            assert refused.status == 400
            error = (await refused.json())["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", "messages[1].reasoning_content")
            assert "reasoning_content is missing in assistant tool call message at index 1" in error["message"]
            assert (await stand.chat(messages=empty)).status == 200
            assert (await stand.chat(messages=silent, thinking={"type": "disabled"})).status == 200
    async with make_gateway() as stand:
        assert (await stand.chat(messages=silent)).status == 200


CLIENT_BODIES: list[dict[str, Any]] = [
    {
        "messages": [HELLO],
        "tools": [],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 32000,
        "reasoning_effort": "high",
        "thinking": {"type": "enabled"},
        "prompt_cache_key": "session-1",
        "temperature": 1.0,
    },
    {"messages": [HELLO], "reasoning_effort": None, "thinking": {"type": "disabled"}, "temperature": 0.6},
    {"messages": [HELLO, ASKED | {"reasoning_content": ""}, FOUND], "tools": [SEARCH], "thinking": {"type": "enabled"}},
    {"messages": [HELLO, ASKED | {"reasoning_content": "", "content": None}, FOUND], "tools": [SEARCH]},
    {"messages": [HELLO, ASKED | {"reasoning_content": "r", "content": ""}, FOUND], "tools": [SEARCH]},
    {"messages": [HELLO, ASKED, FOUND], "tools": [SEARCH], "thinking": {"type": "disabled"}},
    {"messages": [HELLO], "thinking": {"type": "enabled", "keep": "all"}},
    {"messages": [HELLO], "thinking": {"type": "enabled", "keep": None}},
    {
        "messages": [
            {"role": "system", "content": "You are Kimi."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "hello"}], "reasoning_content": "greet"},
            {"role": "user", "content": "go on", "name": "凯尔希"},
        ],
        "stop": [],
        "response_format": {"type": "json_object"},
    },
]
CAPABLE = {"capabilities": "image,video,thinking,tools,grammar"}


@pytest.mark.parametrize("mode", ["open", "kimi"])
@pytest.mark.parametrize("fields", CLIENT_BODIES)
async def test_what_kimis_own_clients_send_is_accepted(make_gateway: Any, fields: dict[str, Any], mode: str) -> None:
    async with make_gateway(sampling=mode, metadata=CAPABLE) as stand:
        response = await stand.chat(**fields)
        assert response.status == 200, await response.text()
        (request,) = stand.answer.requests
    if fields.get("tools"):
        assert json.loads(request.tools) == fields["tools"]
    assert request.cache_key == fields.get("prompt_cache_key", "")
    assert request.preserve_thinking is (fields.get("thinking", {}).get("keep") == "all")


async def test_a_prefix_is_continued(make_gateway: Any) -> None:
    prefix = {"role": "assistant", "content": "Once", "partial": True, "name": "teller"}
    async with make_gateway(metadata={"capabilities": "partial"}) as stand:
        assert (await stand.chat(messages=[HELLO, prefix])).status == 200
        assert stand.answer.requests[0].partial
        assert stand.answer.messages()[-1].content[0].text == "Once"
        assert (await stand.chat()).status == 200
        assert not stand.answer.requests[1].partial


INSTANT = ModelVariant(id="tiny-instant", thinking=False, temperature=0.6, top_p=0.95, max_tokens=100)
THINKING = ModelVariant(id="tiny-thinking", thinking=True, temperature=1.0, top_p=0.95, thinking_budget_tokens=50)
VARIANTS = {"variants": codec.encode_json([INSTANT, THINKING]).decode()}


async def test_variants_are_listed_and_resolved(make_gateway: Any) -> None:
    async with make_gateway(metadata=VARIANTS | CAPABLE) as stand:
        listed = (await (await stand.http.get(f"{stand.url}/v1/models")).json())["data"]
        assert [(entry["id"], entry["variant_of"]) for entry in listed] == [
            ("tiny", None),
            ("tiny-instant", "tiny"),
            ("tiny-thinking", "tiny"),
        ]
        entry = await (await stand.http.get(f"{stand.url}/v1/models/tiny-instant")).json()
        assert entry["capabilities"] == listed[0]["capabilities"]
        answer = await (await stand.chat(model="tiny-instant")).json()
        assert answer["model"] == "tiny-instant"
        await stand.chat(model="tiny-thinking")
        await stand.chat(model="default")
    instant, thinking, plain = stand.answer.requests
    assert {request.model for request in stand.answer.requests} == {"tiny"}
    assert (instant.thinking, instant.sampling.temperature, instant.sampling.max_tokens) == (False, 0.6, 100)
    assert (thinking.thinking, thinking.sampling.temperature, thinking.thinking_budget_tokens) == (True, 1.0, 50)
    assert (plain.thinking, plain.sampling.temperature, plain.thinking_budget_tokens) == (True, None, None)


def test_a_request_wins_over_its_variant() -> None:
    target = Target(ModelEntry(id="tiny-thinking", variant_of="tiny"), THINKING)
    asked = chat_rules.read(body(thinking={"budget_tokens": 7}, temperature=0.25, top_p=0.5, max_tokens=9))
    drawn = sampling(asked, THINKING)
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens) == (0.25, 0.5, 9)
    assert thinking_budget(asked, target) == 7
    assert not thinks(chat_rules.read(body(thinking={"type": "disabled"})), target)
    assert not thinks(chat_rules.read(body(reasoning_effort="none")), target)


async def test_variants_that_cannot_be_read_do_not_hide_the_model(make_gateway: Any) -> None:
    async with make_gateway(metadata={"variants": "[{"}) as stand:
        listed = (await (await stand.http.get(f"{stand.url}/v1/models")).json())["data"]
    assert [entry["id"] for entry in listed] == ["tiny"]


async def test_prompt_tokens_are_counted_in_moonshots_shape(make_gateway: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with make_gateway(script=(TokensCounted(prompt_tokens=80),), metadata=VARIANTS | CAPABLE) as stand:
        asked = {"model": "tiny-instant", "messages": [HELLO], "tools": tools}
        response = await stand.http.post(f"{stand.url}/v1/tokenizers/estimate-token-count", json=asked)
        assert (response.status, await response.json()) == (200, {"data": {"total_tokens": 80}})
        wrong = await stand.http.post(f"{stand.url}/v1/tokenizers/estimate-token-count", json={"model": MODEL})
        assert (wrong.status, (await wrong.json())["error"]["param"]) == (400, "messages")
        assert stand.events() == []
    (counted,) = stand.answer.requests
    assert (counted.chat.model, counted.chat.thinking, json.loads(counted.chat.tools)) == ("tiny", False, tools)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_beyond_the_context_is_refused_by_the_name_it_was_sent_under(
    make_gateway: Any, name: str
) -> None:
    refusal = BadInput("context_length_exceeded", "max_tokens 9000 exceeds the context", param="max_tokens")
    async with make_gateway(script=refusing(refusal)) as stand:
        response = await stand.chat(**{name: 9000})
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, name)
    assert error["message"].startswith(f"{name} 9000")
