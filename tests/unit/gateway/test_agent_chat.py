"""A chat with ``MODEL-agent``: a run told as an OpenAI answer, read by the client that people use."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from schemas import codec
from schemas.chat import Message, TextPart, ToolCall, Usage
from schemas.failure import Failure
from schemas.runs import ModelAnswered, ModelAsked, RunEnded, RunWaiting, StopRun, ToolAnswered, ToolAsked
from schemas.tools import ToolFile
from tests.endpoints.scripted_coordinator import ScriptedCoordinator

from .conftest import MODEL, MakeGateway, Stand, until
from .test_runs import AGENT

MODEL_AGENT = f"{MODEL}-agent"
USAGE = Usage(prompt_tokens=10, completion_tokens=5)
ASK: Any = [{"role": "user", "content": "How many files?"}]
REASONING = "Let me look.\n\nI list them.\n\nThree."


async def a_run_with_a_tool(coordinator: ScriptedCoordinator, run_id: str) -> None:
    blobs = coordinator.blobs
    calls = (ToolCall(id="shell:0", name="shell", arguments='{"command": "ls"}'),)
    first = await coordinator.say("I list them.", reasoning="Let me look.", tool_calls=calls)
    await coordinator.append(run_id, ModelAsked(step=1, message_count=1))
    await coordinator.whisper(run_id, reasoning="Let me ")
    await coordinator.whisper(run_id, reasoning="look.", reasoning_start=7)
    await coordinator.whisper(run_id, content="I list", reasoning_start=12)
    arguments = await blobs.put(calls[0].arguments.encode())
    asked = ToolAsked(step=1, call_id=f"{run_id}-1-0", tool_call_id="shell:0", tool="shell", arguments=arguments)
    answered = ModelAnswered(step=1, message=first, usage=USAGE, finish_reason="tool_calls", tool_calls=1)
    await coordinator.append(run_id, answered, asked)
    await coordinator.whisper(run_id, call_id=asked.call_id, progress="listing")
    result = Message(role="tool", content=(TextPart(text="a b c"),), tool_call_id="shell:0")
    file = ToolFile(name="out.txt", media_type="text/plain", content=await blobs.put(b"a b c"))
    message = await blobs.put(codec.encode(result))
    await coordinator.append(run_id, ToolAnswered(step=1, call_id=asked.call_id, message=message, files=(file,)))
    await coordinator.append(run_id, ModelAsked(step=2, message_count=3))
    await coordinator.answer(run_id, "There are three files.", step=2, reasoning="Three.")


@pytest.fixture
async def stand(make_gateway: MakeGateway) -> AsyncIterator[Stand]:
    async with make_gateway(metadata=AGENT, coordinator={"on_submit": a_run_with_a_tool}) as made:
        yield made


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key="none", max_retries=0, timeout=20) as made:
        yield made


async def test_a_whole_answer(client: openai.AsyncOpenAI, stand: Stand) -> None:
    reply = await client.chat.completions.with_raw_response.create(model=MODEL_AGENT, messages=ASK)
    answer: Any = reply.parse()
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == ("There are three files.", REASONING)
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", MODEL_AGENT)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 10), "the run's totals"
    assert answer.run_id == reply.headers["x-moontide-run-id"]
    assert stand.coordinator is not None
    assert list(stand.coordinator.ledgers) == [answer.run_id]
    (activity,) = message.tool_activity
    assert (activity["tool"], activity["status"], activity["text"]) == ("shell", "finished", "a b c")
    assert activity["arguments"] == '{"command": "ls"}'
    assert await (await stand.http.get(stand.url + activity["files"][0])).read() == b"a b c"
    run = answer.moontide["run"]
    assert (run["id"], run["status"], run["steps"], run["cost_usd"]) == (answer.run_id, "finished", 2, 0.25)


async def test_a_streamed_answer_is_the_same(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL_AGENT, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks: list[Any] = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == REASONING
    assert "".join(delta.content or "" for delta in deltas) == "There are three files."
    activity = [item for delta in deltas for item in getattr(delta, "tool_activity", None) or ()]
    ledger = [item["status"] for item in activity if item["status"] != "running"]
    assert ledger == ["asked", "finished"], "progress is only live"
    assert not any(delta.tool_calls for delta in deltas), "nothing is left for the client to call"
    assert len({chunk.run_id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 30


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "mine"}}]}, "tools[0].type"),
        ({"tools": [{"type": "builtin_function", "function": {"name": "$nothing"}}]}, "tools[0]"),
        ({"n": 2}, "n"),
        ({"stop": ["a"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": [*ASK, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"extra_body": {"budget": {"max_steps": 0}}}, "budget.max_steps"),
    ],
)
async def test_what_an_agent_cannot_keep_to_is_refused(
    client: openai.AsyncOpenAI, stand: Stand, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**({"model": MODEL_AGENT, "messages": ASK} | fields))
    assert caught.value.param is not None
    assert caught.value.param.startswith(param), caught.value
    assert stand.coordinator is not None
    assert stand.coordinator.submitted == []


async def test_what_is_for_agents_is_refused_elsewhere(client: openai.AsyncOpenAI) -> None:
    for name, value in (("budget", {"max_steps": 1}), ("stop_on_disconnect", True)):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, extra_body={name: value})
        assert caught.value.param == name


async def test_builtin_functions_name_the_tools_of_the_run(client: openai.AsyncOpenAI, stand: Stand) -> None:
    tools: Any = [{"type": "builtin_function", "function": {"name": "$python"}}]
    await client.chat.completions.create(
        model=MODEL_AGENT,
        messages=ASK,
        tools=tools,
        temperature=0.5,
        max_tokens=100,
        extra_body={"budget": {"max_steps": 5}, "thinking": {"type": "disabled"}},
    )
    await client.chat.completions.create(model=MODEL_AGENT, messages=ASK)
    assert stand.coordinator is not None
    first, second = [submitted.spec for submitted in stand.coordinator.submitted]
    assert (first.tools, second.tools) == (("python",), None)
    assert (first.budget.max_steps, first.thinking, first.sampling.temperature) == (5, False, 0.5)
    assert (first.sampling.max_tokens, second.thinking) == (100, True)


async def test_one_idempotency_key_is_one_answer(client: openai.AsyncOpenAI, stand: Stand) -> None:
    headers = {"Idempotency-Key": "again"}
    first, second = [
        await client.chat.completions.create(model=MODEL_AGENT, messages=ASK, extra_headers=headers) for _ in range(2)
    ]
    assert first.choices[0].message == second.choices[0].message
    assert stand.coordinator is not None
    assert len(stand.coordinator.ledgers) == 1


async def ended_by(coordinator: ScriptedCoordinator, run_id: str, outcome: Any, code: str, status: int) -> None:
    message = await coordinator.say("So far: one.")
    answered = ModelAnswered(step=1, message=message, usage=USAGE, finish_reason="stop")
    waiting = RunWaiting(failure=Failure(code="upstream.quota", message="come back later", status=429))
    failure = Failure(code=code, message="it is over", status=status)
    await coordinator.append(run_id, answered, waiting)
    await coordinator.append(run_id, RunEnded(outcome=outcome, answer=message, failure=failure))


async def test_a_used_up_budget_cuts_the_answer_short(make_gateway: MakeGateway) -> None:
    async def script(coordinator: ScriptedCoordinator, run_id: str) -> None:
        await ended_by(coordinator, run_id, "failed", "run.budget_steps", 409)

    async with make_gateway(metadata=AGENT, coordinator={"on_submit": script}) as stand:
        answer = await (await stand.chat(model=MODEL_AGENT)).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["choices"][0]["message"]["content"] == "So far: one."


@pytest.mark.parametrize(
    ("outcome", "code", "status", "answered"),
    [("failed", "model.gone", 503, 503), ("cancelled", "run.stopped", 499, 409), ("failed", "x", 500, 500)],
)
async def test_a_failed_run_is_a_failed_answer(
    make_gateway: MakeGateway, outcome: str, code: str, status: int, answered: int
) -> None:
    async def script(coordinator: ScriptedCoordinator, run_id: str) -> None:
        await ended_by(coordinator, run_id, outcome, code, status)

    async with make_gateway(metadata=AGENT, coordinator={"on_submit": script}) as stand:
        response = await stand.chat(model=MODEL_AGENT)
        assert (response.status, (await response.json())["error"]["code"]) == (answered, code)
        assert response.headers["x-moontide-run-id"].startswith("run-")
        streamed = await (await stand.chat(model=MODEL_AGENT, stream=True)).text()
        assert '"run_activity":{"status":"waiting","code":"upstream.quota"' in streamed
        assert f'"code":"{code}"' in streamed.strip().splitlines()[-1]
        assert "[DONE]" not in streamed


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop", [True, False])
async def test_a_run_outlives_its_reader_unless_told_otherwise(
    make_gateway: MakeGateway, stop: bool, stream: bool
) -> None:
    async with make_gateway(metadata=AGENT, coordinator={}) as stand:
        coordinator = stand.coordinator
        assert coordinator is not None
        chat = asyncio.create_task(stand.chat(model=MODEL_AGENT, stream=stream, stop_on_disconnect=stop))
        await until(lambda: coordinator.queries > 0)
        if stream:
            (await chat).close()
        else:
            chat.cancel()
        (run_id,) = coordinator.ledgers
        if stop:
            await until(lambda: coordinator.commands != [])
            assert coordinator.commands[0].body == StopRun(reason="the client went away")
        await coordinator.answer(run_id, "Done.")
        await stand.stop()
        assert len(coordinator.commands) == int(stop)


async def test_a_drain_is_not_the_clients_doing(make_gateway: MakeGateway) -> None:
    async with make_gateway(metadata=AGENT, coordinator={}, drain_seconds=0.1) as stand:
        coordinator = stand.coordinator
        assert coordinator is not None
        response = await stand.chat(model=MODEL_AGENT, stream=True, stop_on_disconnect=True)
        await stand.stop()
        response.close()
        assert coordinator.commands == []
