"""Other people's clients and Kimi's own bodies on the real stack: its random weights call tools because they must."""

import asyncio
from typing import Any, Literal

import agents
import openai
import pytest
import requests
from pydantic import BaseModel

from tests.e2e.stack import Stack

HELLO: dict[str, Any] = {"role": "user", "content": "How is the weather in Kyoto?"}


class Weather(BaseModel):
    city: Literal["Kyoto", "Oslo"]
    unit: Literal["celsius", "fahrenheit"]


def test_the_typed_stream_helper_runs_a_tool_loop(stack: Stack) -> None:
    client, model = stack.client(), f"{stack.model()}-instant"
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    common: dict[str, Any] = {"model": model, "tools": [tool], "temperature": 0, "seed": 3}
    with client.chat.completions.stream(
        messages=[HELLO],  # type: ignore[list-item]
        tool_choice="required",
        max_tokens=400,
        **common,
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        said = stream.get_final_completion().choices[0].message
    calls = said.tool_calls or []
    assert len(done) == len(calls) > 0
    assert all(isinstance(call.function.parsed_arguments, Weather) for call in calls)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21 degrees"} for call in calls]
    asked = {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"}) for call in calls]}
    told = client.chat.completions.create(
        messages=[HELLO, asked, *results],  # type: ignore[list-item]
        tool_choice="none",
        max_tokens=12,
        **common,
    )
    assert isinstance(told.choices[0].message.content, str)
    assert told.usage is not None
    assert told.usage.completion_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_agents_run_a_tool_loop(stack: Stack, streamed: bool) -> None:
    """The first call is required; behind it the package itself leaves the choice to the model."""
    told: list[Weather] = []

    @agents.function_tool
    def get_weather(weather: Weather) -> str:
        """The weather of a city."""
        told.append(weather)
        return "21 degrees"

    async def run() -> Any:
        agents.set_tracing_disabled(True)
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            agent = agents.Agent(
                name="guide",
                instructions="Be brief.",
                tools=[get_weather],
                model=agents.OpenAIChatCompletionsModel(model=f"{stack.model()}-instant", openai_client=client),
                model_settings=agents.ModelSettings(
                    tool_choice="required", temperature=0, max_tokens=400, extra_body={"seed": 3}
                ),
            )
            if not streamed:
                return await agents.Runner.run(agent, str(HELLO["content"]), max_turns=4)
            result = agents.Runner.run_streamed(agent, str(HELLO["content"]), max_turns=4)
            assert "raw_response_event" in {event.type async for event in result.stream_events()}
            return result

    result = asyncio.run(run())
    assert told
    assert isinstance(result.final_output, str)


SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
CALL = {
    "id": "functions.$web_search:0",
    "type": "builtin_function",
    "function": {"name": "$web_search", "arguments": '{"query": "moon"}'},
}
SEARCHED = {"role": "assistant", "reasoning_content": "", "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": CALL["id"], "name": "$web_search", "content": '{"query": "moon"}'}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [SEARCH], "messages": [HELLO]},
        {"tools": [SEARCH], "messages": [HELLO, SEARCHED, FOUND]},
        {"tools": [SEARCH], "messages": [HELLO, SEARCHED | {"content": None}, FOUND]},
        {"messages": [HELLO], "thinking": {"type": "enabled", "keep": "all"}},
        {"messages": [HELLO], "thinking": {"type": "enabled", "keep": None}},
    ],
)
def test_what_kimis_own_clients_send_is_answered(stack: Stack, fields: dict[str, Any], stream: bool) -> None:
    body = {"model": stack.model(), "max_tokens": 8, "stream": stream, **fields}
    response = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    assert ("data: [DONE]" in response.text) is stream
