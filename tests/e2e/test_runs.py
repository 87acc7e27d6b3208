"""An agent's run on a whole stack, while coordinator and tools are killed: it ends as if nothing had happened."""

from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from aiohttp import web

from tests.e2e.stack import Stack, running, wait_until
from tests.e2e.test_upstream import in_thread
from tests.endpoints.agent import AgentEndpoint, Control, application
from tests.endpoints.conversation import Conversation, Scripts, Turn
from tests.missions.pier import call

LINES = 12


def writing(seed: int) -> Any:
    """A line more in each step: what is there already is read, so nothing can be done twice unseen."""

    def turn(conversation: Conversation) -> Turn:
        step = conversation.step
        if step > LINES:
            return Turn("Enough.", f"{LINES} lines are written.")
        code = f"open('log.txt', 'a').write('line {step}\\n'); print(open('log.txt').read())"
        return Turn("Another line.", calls=(call("python", code=code),))

    return turn


@asynccontextmanager
async def serving() -> Any:
    endpoint = AgentEndpoint(Scripts({"writing": writing}), None, Control(seconds=0.2))
    runner = web.AppRunner(application(endpoint), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", endpoint
    finally:
        await runner.cleanup()


@dataclass
class Place:
    stack: Stack
    endpoint: AgentEndpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("runs")
    with in_thread(serving()) as (url, endpoint), running(folder, "--upstream", url) as started:
        yield Place(started, endpoint)


def get(stack: Stack, path: str) -> Any:
    """Tried again while the gateway finds no coordinator."""

    def answer() -> Any:
        reply = requests.get(f"{stack.url}{path}", timeout=20)
        return reply.json() if reply.status_code == 200 else None

    return wait_until(answer, 30, path)


def agent(stack: Stack) -> str | None:
    """The name that stands for runs, while a coordinator is there."""
    known = [model["id"] for model in requests.get(f"{stack.url}/v1/models", timeout=10).json()["data"]]
    return next((name for name in known if name.endswith("-agent")), None)


def begin(stack: Stack, tool: str) -> str:
    model = wait_until(lambda: agent(stack), 30, "a coordinator that is there")
    body = {"model": model, "goal": f"[mission writing 1 {tool}] Write.", "tools": [tool]}
    begun = requests.post(f"{stack.url}/v1/runs", json=body, timeout=30)
    assert begun.status_code in (200, 201, 202), begun.text
    return begun.json()["id"]


@pytest.mark.parametrize("mode", ["quota", "busy"])
def test_a_model_that_refuses_is_a_visible_state_within_five_seconds(place: Place, mode: Any) -> None:
    stack = place.stack
    wait_until(lambda: agent(stack), 30, "a coordinator that is there")
    place.endpoint.control = Control(mode=mode)
    run_id = begin(stack, "python")
    run = wait_until(lambda: (seen := get(stack, f"/v1/runs/{run_id}"))["status"] == "waiting" and seen, 5, "waiting")
    assert run["waiting"]["code"] == f"upstream.{mode}"
    assert requests.post(f"{stack.url}/v1/runs/{run_id}/stop", json={}, timeout=20).status_code < 300
    wait_until(lambda: get(stack, f"/v1/runs/{run_id}")["status"] == "cancelled", 5, "stopped")


def test_a_run_outlives_its_coordinator_and_its_tools(place: Place) -> None:
    stack = place.stack
    place.endpoint.control = Control(seconds=0.2)
    run_id = begin(stack, "python")
    for needle, step in (("services.coordinator", 3), ("services.tools", 6), ("services.coordinator", 9)):
        wait_until(lambda step=step: get(stack, f"/v1/runs/{run_id}")["step"] >= step, 60, f"step {step}")
        stack.kill(needle)
    run = wait_until(
        lambda: (seen := get(stack, f"/v1/runs/{run_id}"))["status"] in ("finished", "failed") and seen, 90, "an end"
    )
    assert run["status"] == "finished", run
    assert run["step"] == LINES + 1
    written = requests.get(f"{stack.url}/v1/runs/{run_id}/files/workspace/log.txt", timeout=20)
    assert written.text == "".join(f"line {number}\n" for number in range(1, LINES + 1))
