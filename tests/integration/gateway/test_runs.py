"""Runs over a real broker: readers resume at every event, their coordinator may go, a key is one run everywhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from schemas.chat import Usage
from schemas.runs import LeaseTaken, ModelAnswered, ModelAsked
from shared.bus.broker import Broker
from shared.bus.connection import connect
from tests.endpoints.scripted_coordinator import ScriptedCoordinator, coordinating
from tests.endpoints.scripted_model import MODEL, served
from tests.waiting import until, until_it_is

USAGE = Usage(prompt_tokens=10, completion_tokens=5)


@dataclass
class Place:
    urls: list[str]
    coordinator: ScriptedCoordinator
    http: aiohttp.ClientSession
    broker: Broker

    async def begun(self, url: str | None = None, **headers: str) -> str:
        body = {"model": MODEL, "goal": "Look around."}
        async with self.http.post(f"{url or self.urls[0]}/v1/runs", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            return (await response.json())["id"]


@pytest.fixture
async def place(broker: Broker, tmp_path: Path) -> AsyncIterator[Place]:
    """Two gateways over one blob store."""
    async with AsyncExitStack() as stack:
        urls = []
        for name in ("one", "two"):
            bus = await stack.enter_async_context(connect(broker.config, f"tokenizer-{name}"))
            gateway_bus = await stack.enter_async_context(connect(broker.config, f"gateway-{name}"))
            served_ = served(bus, gateway_bus, tmp_path, run_poll_seconds=0.2, run_timeout_seconds=1.0)
            url, model = await stack.enter_async_context(served_)
            urls.append(url)
        bus = await stack.enter_async_context(connect(broker.config, "coordinator"))
        coordinator = await stack.enter_async_context(coordinating(bus, model.blobs, page=3))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Place(urls, coordinator, http, broker)


async def steps(coordinator: ScriptedCoordinator, run_id: str, first: int, last: int) -> None:
    for step in range(first, last + 1):
        await coordinator.append(run_id, LeaseTaken(owner="o", term=step), ModelAsked(step=step, message_count=step))
        await coordinator.whisper(run_id, step=step, reasoning="Hm.")
        message = await coordinator.say(f"answer {step}")
        await coordinator.append(
            run_id, ModelAnswered(step=step, message=message, usage=USAGE, finish_reason="tool_calls")
        )


async def followed(place: Place, run_id: str, after: str = "", limit: int = 10**6, url: str = "") -> list[Any]:
    """Events with a place, at most ``limit``, then the connection is cut."""
    headers = {"Last-Event-ID": after} if after else {}
    found: list[Any] = []
    address = f"{url or place.urls[0]}/v1/runs/{run_id}/events"
    async with asyncio.timeout(30), place.http.get(address, headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: ") and b'"run.delta"' not in line:
                found.append(json.loads(line[6:]))
                if len(found) == limit:
                    break
    return found


async def test_a_reader_that_is_cut_everywhere_gets_every_event_once(place: Place) -> None:
    """From either gateway in turn, while the run goes on."""
    run_id = await place.begun()

    async def work() -> None:
        await steps(place.coordinator, run_id, 1, 12)
        await place.coordinator.answer(run_id, "Done.", step=13)

    working = asyncio.create_task(work())
    heard: list[Any] = []
    while not heard or heard[-1]["type"] != "run.ended":
        after = heard[-1]["id"] if heard else ""
        heard += await followed(place, run_id, after, limit=1 + len(heard) % 3, url=place.urls[len(heard) % 2])
    await working
    assert heard == await followed(place, run_id)
    assert len(heard) == 1 + 12 * 3 + 2


async def test_a_reader_does_not_notice_that_its_coordinator_is_replaced(place: Place) -> None:
    run_id = await place.begun()
    old = place.coordinator
    reading = asyncio.create_task(followed(place, run_id))
    await until(lambda: old.queries > 0)
    await steps(old, run_id, 1, 2)
    async with connect(place.broker.config, "heir") as bus, coordinating(bus, old.blobs) as heir:
        heir.ledgers, heir._sequence = old.ledgers, old._sequence
        old.silent = True
        await steps(old, run_id, 3, 3)
        heir._sequence = old._sequence
        await steps(heir, run_id, 4, 5)
        await heir.answer(run_id, "Done.", step=6)
        heard = await reading
    assert [event["step"] for event in heard if event["type"] == "model.answered"] == [1, 2, 3, 4, 5, 6]
    assert heard[-1]["type"] == "run.ended"


async def test_one_key_is_one_run_at_all_gateways(place: Place) -> None:
    key = {"Idempotency-Key": "the same everywhere"}
    ids = await asyncio.gather(*(place.begun(place.urls[number % 2], **key) for number in range(10)))
    assert len(set(ids)) == 1
    assert len(place.coordinator.ledgers) == 1


async def test_a_reader_that_does_not_read_is_dropped(broker: Broker, tmp_path: Path) -> None:
    """It holds the only place, until it is dropped; the run does not wait for it."""
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connect(broker.config, name)) for name in ("t", "g", "c")]
        config: dict[str, Any] = {"write_timeout_seconds": 1.0, "run_poll_seconds": 0.2, "max_watchers": 1}
        url, model = await stack.enter_async_context(served(buses[0], buses[1], tmp_path, **config))
        coordinator = await stack.enter_async_context(coordinating(buses[2], model.blobs))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        lazy_http = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=1024))
        place = Place([url], coordinator, http, broker)
        run_id = await place.begun()
        address = f"{url}/v1/runs/{run_id}/events"
        async with lazy_http.get(address) as lazy:
            await lazy.content.readline()
            text = await coordinator.say("x" * 30_000)
            for step in range(1, 400):
                answered = ModelAnswered(step=step, message=text, usage=USAGE, finish_reason="tool_calls")
                await coordinator.append(run_id, answered)
            await coordinator.answer(run_id, "Done.", step=400)

            async def next_reader() -> list[Any]:
                """Empty as long as it is refused."""
                heard.extend(await followed(place, run_id))
                return heard

            heard: list[Any] = []
            await until_it_is(next_reader, 30)
        assert heard[-1]["type"] == "run.ended"


async def test_the_typed_stream_helper_reads_an_agent(place: Place) -> None:
    async def script(coordinator: ScriptedCoordinator, run_id: str) -> None:
        await coordinator.answer(run_id, "There is nothing.", reasoning="I look.")

    place.coordinator.on_submit = script
    async with openai.AsyncOpenAI(base_url=f"{place.urls[0]}/v1", api_key="none", max_retries=0) as client:
        ask: Any = [{"role": "user", "content": "What is there?"}]
        async with client.chat.completions.stream(model=f"{MODEL}-agent", messages=ask) as stream:
            async for _ in stream:
                pass
            whole = await stream.get_final_completion()
    assert whole.choices[0].message.content == "There is nothing."
    assert whole.choices[0].finish_reason == "stop"
