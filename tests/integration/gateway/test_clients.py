"""Other people's clients against a real gateway on a real broker: the openai client's typed helpers, and its agents."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import agents
import openai
import pytest
from pydantic import BaseModel

from shared.bus.broker import Broker
from shared.bus.connection import connect
from tests.endpoints.scripted_model import MODEL, ScriptedModel, served

HELLO: Any = {"role": "user", "content": "How is the weather in Kyoto?"}


class Weather(BaseModel):
    city: str
    unit: Literal["celsius", "fahrenheit"]


class Stand:
    def __init__(self, client: openai.AsyncOpenAI, model: ScriptedModel) -> None:
        self.client = client
        self.model = model


@pytest.fixture
async def stand(broker: Broker, tmp_path: Path) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(broker.config, "tokenizer"))
        gateway_bus = await stack.enter_async_context(connect(broker.config, "gateway"))
        url, model = await stack.enter_async_context(served(bus, gateway_bus, tmp_path))
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        yield Stand(await stack.enter_async_context(client), model)


async def test_the_typed_stream_helper_puts_an_answer_together(stand: Stand) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": [HELLO], "logprobs": True}
    async with stand.client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        events = [event.type async for event in stream]
        whole = await stream.get_final_completion()
    plain = await stand.client.chat.completions.create(**asked)
    assert {"content.delta", "content.done", "logprobs.content.delta"} <= set(events)
    assert whole.choices[0].message.content == plain.choices[0].message.content == f"You said: {HELLO['content']}"
    assert whole.choices[0].message.model_extra is not None
    assert whole.choices[0].message.model_extra["reasoning_content"] == "Let me see. "
    assert whole.usage == plain.usage
    assert whole.choices[0].logprobs is not None
    assert plain.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.content == plain.choices[0].logprobs.content


async def test_the_typed_stream_helper_parses_tool_calls(stand: Stand) -> None:
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    asked: dict[str, Any] = {"model": MODEL, "messages": [HELLO], "tools": [tool]}
    async with stand.client.chat.completions.stream(**asked) as stream:
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
        message = (await stream.get_final_completion()).choices[0].message
    (call,) = message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)
    assert [event.name for event in done] == ["get_weather"]
    plain = (await stand.client.chat.completions.create(**asked)).choices[0].message
    assert plain.content is None
    assert [said.model_dump()["function"] for said in plain.tool_calls or []] == [
        {"name": "get_weather", "arguments": call.function.arguments}
    ]


async def test_the_typed_parse_helper_fits_a_schema(stand: Stand) -> None:
    asked: dict[str, Any] = {"model": f"{MODEL}-instant", "messages": [HELLO], "response_format": Weather}
    parsed = (await stand.client.chat.completions.parse(**asked)).choices[0].message.parsed
    assert isinstance(parsed, Weather)
    async with stand.client.chat.completions.stream(**asked) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.parsed
    assert streamed == parsed
    assert not stand.model.requests[-1].thinking


@pytest.mark.parametrize("streamed", [False, True])
async def test_agents_run_a_tool_loop(stand: Stand, streamed: bool) -> None:
    asked: list[str] = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "21 degrees"

    agents.set_tracing_disabled(True)
    model = agents.OpenAIChatCompletionsModel(model=MODEL, openai_client=stand.client)
    agent = agents.Agent(name="guide", instructions="Be brief.", tools=[get_weather], model=model)
    if streamed:
        result: Any = agents.Runner.run_streamed(agent, str(HELLO["content"]))
        kinds = {event.type async for event in result.stream_events()}
        assert {"raw_response_event", "run_item_stream_event"} <= kinds
    else:
        result = await agents.Runner.run(agent, str(HELLO["content"]))
    assert result.final_output == "The tool said: 21 degrees"
    assert len(asked) == 1
    calling, telling = stand.model.requests
    assert (
        json.loads(calling.tools if isinstance(calling.tools, bytes) else b"")[0]["function"]["name"] == "get_weather"
    )
    assert len(telling.messages) == len(calling.messages) + 2


async def test_counts_are_the_usage_of_the_same_chat(stand: Stand) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}
    used = (await stand.client.chat.completions.create(**asked)).usage
    counted: Any = await stand.client.post("/tokenizers/estimate-token-count", body=asked, cast_to=object)
    assert used is not None
    assert counted == {"data": {"total_tokens": used.prompt_tokens}}


async def test_a_refusal_reaches_the_client_with_its_field(stand: Stand) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await stand.client.chat.completions.create(model=MODEL, messages=[HELLO], tool_choice="required")
    assert caught.value.param == "tool_choice"
