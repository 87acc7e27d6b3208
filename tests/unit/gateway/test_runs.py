"""``/v1/runs`` over a scripted coordinator: bodies become specs, events are complete whatever breaks."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Message, TextPart, Usage
from schemas.failure import Failure
from schemas.runs import (
    DecideTool,
    LeaseTaken,
    ModelAnswered,
    ModelAsked,
    PauseRun,
    ResumeRun,
    RunEnded,
    RunOrigin,
    RunWaiting,
    SteerRun,
    StopRun,
    ToolAnswered,
    ToolAsked,
)
from schemas.tools import ToolFile, WorkspaceFile, WorkspaceTree
from services.gateway.run_event_body import cut_at
from services.gateway.run_id import checked_run_id, new_run_id

from .conftest import MODEL, MakeGateway, Stand, until

AGENT = {"capabilities": "tools,image,thinking"}
USAGE = Usage(prompt_tokens=10, completion_tokens=5)
NOBODY = "run-" + "2" * 26


@pytest.fixture
async def stand(make_gateway: MakeGateway) -> AsyncIterator[Stand]:
    async with make_gateway(metadata=AGENT, coordinator={}, run_poll_seconds=0.05, heartbeat_seconds=5.0) as made:
        yield made


async def post(stand: Stand, path: str = "", headers: dict[str, str] | None = None, **body: Any) -> Any:
    response = await stand.http.post(f"{stand.url}/v1/runs{path}", json=body, headers=headers)
    return response.status, await response.json()


async def begun(stand: Stand, **body: Any) -> str:
    status, run = await post(stand, **({"model": MODEL, "goal": "Count the files."} | body))
    assert status == 200, run
    return run["id"]


async def get(stand: Stand, path: str = "") -> Any:
    response = await stand.http.get(f"{stand.url}/v1/runs{path}")
    return response.status, await response.json()


@dataclass
class Event:
    id: str
    data: Any


async def read_events(response: aiohttp.ClientResponse, limit: int | None = None) -> list[Event]:
    """Until the stream ends, or ``limit`` events with an id have come."""
    found: list[Event] = []
    last = ""
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text.startswith("id: "):
            last = text[4:]
        elif text.startswith("data: "):
            found.append(Event(last, json.loads(text[6:])))
            if limit is not None and sum(event.data["type"] != "run.delta" for event in found) >= limit:
                break
    return found


async def followed(stand: Stand, run_id: str, after: str | None = None, limit: int | None = None) -> list[Event]:
    headers = {"Last-Event-ID": after} if after is not None else {}
    url = f"{stand.url}/v1/runs/{run_id}/events"
    async with asyncio.timeout(20), stand.http.get(url, headers=headers) as response:
        assert response.status in (200, 204), await response.text()
        return await read_events(response, limit)


async def a_long_run(stand: Stand, run_id: str) -> None:
    """Entries of one to three events, with a tool call, an image and a file in it."""
    coordinator = stand.coordinator
    assert coordinator is not None
    image = await stand.blobs.put(b"png")
    arguments = await stand.blobs.put(b'{"code": "1+1"}')
    tree = WorkspaceTree(files=(WorkspaceFile(path="src/a b.py", content=await stand.blobs.put(b"print()")),))
    result = Message(
        role="tool",
        content=(TextPart(text="2"), MediaPart(kind="image", source=image, name="plot.png")),
        tool_call_id="python:0",
    )
    call = ToolAsked(step=1, call_id=f"{run_id}-1-0", tool_call_id="python:0", tool="python", arguments=arguments)
    await coordinator.append(run_id, LeaseTaken(owner="one", term=1), ModelAsked(step=1, message_count=1))
    thought = await coordinator.say("I count.", reasoning="Hm.")
    asked = ModelAnswered(step=1, message=thought, usage=USAGE, finish_reason="tool_calls", tool_calls=1)
    await coordinator.append(run_id, asked, call)
    await coordinator.append(
        run_id,
        ToolAnswered(
            step=1,
            call_id=call.call_id,
            message=await stand.blobs.put(codec.encode(result)),
            files=(ToolFile(name="out.csv", media_type="text/csv", content=await stand.blobs.put(b"a,b\n")),),
            workspace=await stand.blobs.put(codec.encode(tree)),
        ),
        LeaseTaken(owner="two", term=2),
        ModelAsked(step=2, message_count=3),
    )
    patch = ToolFile(name="changes.patch", media_type="text/x-diff", content=await stand.blobs.put(b"--- a\n"))
    final = await coordinator.say("Two files.")
    answered = ModelAnswered(step=2, message=final, usage=USAGE, finish_reason="stop")
    await coordinator.append(run_id, answered)
    await coordinator.append(run_id, RunEnded(outcome="finished", answer=final, files=(patch,)))


async def test_a_body_becomes_a_spec(stand: Stand) -> None:
    form = aiohttp.FormData()
    form.add_field("purpose", "user_data")
    form.add_field("file", b"1,2\n", filename="data.csv")
    uploaded = await (await stand.http.post(f"{stand.url}/v1/files", data=form)).json()
    status, run = await post(
        stand,
        model=f"{MODEL}-agent",
        goal="Find   the\nbug.",
        tools=["python", "shell", "python"],
        approvals=["shell"],
        budget={"max_steps": 7, "max_cost_usd": 1.5},
        context_strategy="summary",
        thinking={"type": "disabled"},
        temperature=0.25,
        seed=4,
        files=[{"file_id": uploaded["id"], "path": "in/data.csv"}, {"file_id": uploaded["id"]}],
    )
    assert (status, run["status"], run["title"], run["model"]) == (200, "queued", "Find the bug.", MODEL)
    assert checked_run_id(run["id"]) == run["id"]
    assert stand.coordinator is not None
    sent = stand.coordinator.submitted[0]
    spec = sent.spec
    assert (spec.model, spec.tools, spec.approvals) == (MODEL, ("python", "shell"), ("shell",))
    assert (spec.budget.max_steps, spec.budget.max_cost_usd, spec.budget.max_seconds) == (7, 1.5, 12 * 3600.0)
    assert (spec.thinking, spec.sampling.temperature, spec.sampling.seed) == (False, 0.25, 4)
    assert spec.context_strategy == "summary"
    assert [file.path for file in spec.files] == ["in/data.csv", "data.csv"]
    assert await stand.blobs.get(spec.files[1].content) == b"1,2\n"
    await begun(stand, repository=uploaded["id"])
    assert stand.coordinator.submitted[-1].spec.repository == spec.files[0].content
    (message,) = [codec.decode(await stand.blobs.get(reference), Message) for reference in spec.messages]
    assert message == Message(role="user", content=(TextPart(text="Find   the\nbug."),))
    assert sent.context.deadline_unix_seconds > 12 * 3600.0
    assert sent.context.traceparent.startswith("00-")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "goal"),
        ({"goal": ""}, "goal"),
        ({"goal": "x", "messages": [{"role": "user", "content": "x"}]}, "goal"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]}, "messages[0].tool_call_id"),
        ({"goal": "x", "kind": "swarm"}, "kind"),
        ({"goal": "x", "kind": "other"}, "kind"),
        ({"goal": "x", "tools": ["python", "pyhton"]}, "tools[1]"),
        ({"goal": "x", "tools": ["python"], "approvals": ["shell"]}, "approvals[0]"),
        ({"goal": "x", "approvals": ["nothing"]}, "approvals[0]"),
        ({"goal": "x", "budget": {"max_steps": 0}}, "budget.max_steps"),
        ({"goal": "x", "budget": {"max_step": 1}}, "budget.max_step"),
        ({"goal": "x", "budget": {"max_cost_usd": 0}}, "budget.max_cost_usd"),
        ({"goal": "x", "thinking": "yes"}, "thinking"),
        ({"goal": "x", "files": [{"file_id": "file-00"}]}, "files[0].file_id"),
        ({"goal": "x", "files": [{"file_id": "file-00", "path": "../a"}]}, "files[0].path"),
        ({"goal": "x", "files": [{"file_id": "file-00", "path": "/etc/passwd"}]}, "files[0].path"),
        ({"goal": "x", "files": [{"file_id": "f", "path": "a"}, {"file_id": "f", "path": "a/b"}]}, "files[1].path"),
        ({"goal": "x", "files": [{"file_id": "f", "path": "a/b"}, {"file_id": "f", "path": "a"}]}, "files[1].path"),
        ({"goal": "x", "files": [{"file_id": "f", "path": ".git/hooks/post-commit"}]}, "files[0].path"),
        ({"goal": "x", "repository": "file-00"}, "repository"),
        ({"goal": "x", "repository": "f", "files": [{"file_id": "f", "path": "a"}]}, "repository"),
        ({"goal": "x", "top_k": 5}, "top_k"),
        ({"goal": [{"type": "image_url", "image_url": "file-00"}]}, "goal[0].image_url"),
        ({"goal": "x", "unheard": 1}, "unheard"),
        ({"goal": "x", "stop": ["a"]}, "stop"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(stand: Stand, body: dict[str, Any], param: str) -> None:
    status, answer = await post(stand, **({"model": MODEL} | body))
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert param in answer["error"]["message"]
    assert stand.coordinator is not None
    assert stand.coordinator.submitted == []


async def test_what_a_model_cannot_do_is_refused(make_gateway: MakeGateway) -> None:
    async with make_gateway(metadata={"capabilities": "tools"}, coordinator={}) as stand:
        part = {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}
        status, answer = await post(stand, model=MODEL, goal=[part])
        assert (status, answer["error"]["param"]) == (400, "goal[0]")
    async with make_gateway(metadata={"capabilities": "image"}, coordinator={}) as stand:
        status, answer = await post(stand, model=MODEL, goal="x")
        assert (status, answer["error"]["param"]) == (400, "model")
        status, answer = await post(stand, model="other", goal="x")
        assert (status, answer["error"]["code"]) == (404, "model_not_found")


async def test_without_a_coordinator_the_answer_is_503(make_gateway: MakeGateway) -> None:
    async with make_gateway(metadata=AGENT, run_timeout_seconds=0.2) as stand:
        response = await stand.http.post(f"{stand.url}/v1/runs", json={"model": MODEL, "goal": "x"})
        assert (response.status, (await response.json())["error"]["code"]) == (503, "run.no_coordinator")
        assert int(response.headers["Retry-After"]) >= 1
        assert "tiny-agent" not in await (await stand.http.get(f"{stand.url}/v1/models")).text()


async def test_the_agent_is_listed_beside_its_model(stand: Stand) -> None:
    models = await (await stand.http.get(f"{stand.url}/v1/models")).json()
    assert [(model["id"], model.get("variant_of")) for model in models["data"]] == [
        (MODEL, None),
        (f"{MODEL}-agent", MODEL),
    ]


async def test_one_idempotency_key_is_one_run(stand: Stand) -> None:
    body = {"model": MODEL, "goal": "x"}
    key = {"Idempotency-Key": "order 7"}
    answers = await asyncio.gather(*(post(stand, headers=key, **body) for _ in range(8)))
    assert {status for status, _ in answers} == {200}
    assert len({run["id"] for _, run in answers}) == 1
    assert stand.coordinator is not None
    assert len(stand.coordinator.ledgers) == 1
    status, answer = await post(stand, headers=key, **body | {"goal": "y"})
    assert (status, answer["error"]["param"]) == (422, "Idempotency-Key")
    status, answer = await post(stand, headers={"Idempotency-Key": "ä"}, **body)
    assert (status, answer["error"]["param"]) == (400, "Idempotency-Key")
    assert await begun(stand, goal="x") != answers[0][1]["id"], "without a key every run is a new one"


async def test_runs_are_listed_newest_first_in_pages(stand: Stand) -> None:
    ids = []
    for number in range(5):
        ids.append(await begun(stand, goal=f"goal {number}"))
        await asyncio.sleep(0.002)  # ids sort by milliseconds
    assert stand.coordinator is not None
    await stand.coordinator.answer(ids[1], "done")
    pages, after = [], ""
    while True:
        _, page = await get(stand, f"?limit=2{after}")
        pages.append([run["id"] for run in page["data"]])
        if not page["has_more"]:
            break
        after = f"&after={page['data'][-1]['id']}"
    assert [run_id for page in pages for run_id in page] == ids[::-1]
    _, finished = await get(stand, "?status=finished")
    assert [(run["id"], run["title"], run["cost_usd"]) for run in finished["data"]] == [(ids[1], "goal 1", 0.25)]
    assert "answer" not in finished["data"][0]
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("status=odd", "status"), ("after=x", "after")):
        status, answer = await get(stand, f"?{query}")
        assert (status, answer["error"]["param"]) == (400, param)


async def test_a_run_shows_its_answer_and_what_it_waits_for(stand: Stand) -> None:
    run_id = await begun(stand)
    assert stand.coordinator is not None
    arguments = await stand.blobs.put(b'{"command": "rm -r ."}')
    asked = ToolAsked(
        step=1, call_id=f"{run_id}-1-0", tool_call_id="c", tool="shell", arguments=arguments, needs_approval=True
    )
    waiting = RunWaiting(failure=Failure(code="run.approval", message="a call waits", status=409))
    await stand.coordinator.append(run_id, asked, waiting)
    _, run = await get(stand, f"/{run_id}")
    assert (run["status"], run["waiting"]["code"]) == ("waiting", "run.approval")
    assert run["approvals"] == [{"call_id": asked.call_id, "tool": "shell", "arguments": '{"command": "rm -r ."}'}]
    status, _ = await post(stand, f"/{run_id}/approvals/{asked.call_id}", approved=False, note="No!")
    assert status == 200
    assert stand.coordinator.commands[-1].body == DecideTool(call_id=asked.call_id, approved=False, note="No!")
    await stand.coordinator.answer(run_id, "Done.", reasoning="Hm.")
    _, run = await get(stand, f"/{run_id}")
    assert run["status"] == "finished"
    assert run["answer"] == {"role": "assistant", "content": "Done.", "reasoning_content": "Hm."}
    assert run["usage"]["total_tokens"] == 15


async def test_what_is_said_to_a_run_is_a_command(stand: Stand) -> None:
    run_id = await begun(stand)
    assert stand.coordinator is not None
    for path, body in (
        ("messages", {"content": "Rather use Python.", "interrupt": True}),
        ("pause", {"reason": "lunch"}),
        ("resume", {}),
        ("stop", {}),
    ):
        status, answer = await post(stand, f"/{run_id}/{path}", **body)
        assert (status, answer["run_id"], answer["object"]) == (200, run_id, "run.command")
        assert answer["id"] == stand.coordinator.commands[-1].command_id
    empty = await stand.http.post(f"{stand.url}/v1/runs/{run_id}/stop")
    assert empty.status == 200
    steer, pause, resume, stop, again = [command.body for command in stand.coordinator.commands]
    assert isinstance(steer, SteerRun)
    assert steer.interrupt
    said = codec.decode(await stand.blobs.get(steer.message), Message)
    assert said == Message(role="user", content=(TextPart(text="Rather use Python."),))
    assert (pause, resume, stop, again) == (PauseRun(reason="lunch"), ResumeRun(), StopRun(), StopRun())
    key = {"Idempotency-Key": "once"}
    first, second = [await post(stand, f"/{run_id}/pause", headers=key) for _ in range(2)]
    assert first == second
    assert len(stand.coordinator.commands) == 6
    for path, body, param in (
        ("messages", {}, "content"),
        ("messages", {"content": "x", "role": "system"}, "role"),
        ("stop", {"reason": 1}, "reason"),
        ("approvals/x", {"approved": "yes"}, "approved"),
    ):
        status, answer = await post(stand, f"/{run_id}/{path}", **body)
        assert (status, answer["error"]["param"]) == (400, param)
    status, answer = await post(stand, f"/{run_id}/approvals/x", approved=True)
    assert (status, answer["error"]["code"]) == (404, "run.approval_not_found")


async def test_a_fork_goes_on_differently(stand: Stand) -> None:
    run_id = await begun(stand, tools=["python"], budget={"max_steps": 3, "max_tokens": 99})
    assert stand.coordinator is not None
    await stand.coordinator.answer(run_id, "Done.", step=2)
    status, fork = await post(stand, f"/{run_id}/fork", step=1, goal="Now in French.", budget={"max_steps": 9})
    assert (status, fork["forked_from"]) == (200, {"run_id": run_id, "step": 1})
    sent = stand.coordinator.submitted[-1]
    assert sent.origin == RunOrigin(run_id=run_id, step=1)
    assert (sent.spec.tools, sent.spec.budget.max_steps, sent.spec.budget.max_tokens) == (("python",), 9, 99)
    assert [codec.decode(await stand.blobs.get(ref), Message).content for ref in sent.spec.messages] == [
        (TextPart(text="Now in French."),)
    ]
    status, answer = await post(stand, f"/{run_id}/fork", step=3)
    assert (status, answer["error"]["param"]) == (400, "step")


async def test_nobody_finds_a_run_that_is_not_theirs(stand: Stand) -> None:
    for run_id in (NOBODY, "x", "run-" + "z" * 27):
        for path in ("", "/events", "/events/1", "/files", "/files/outputs/x"):
            response = await stand.http.get(f"{stand.url}/v1/runs/{run_id}{path}")
            assert response.status == 404, (run_id, path)
    for path, body in (
        ("messages", {"content": "x"}),
        ("stop", {}),
        ("pause", {}),
        ("resume", {}),
        ("approvals/a", {"approved": True}),
        ("fork", {"step": 0}),
    ):
        status, answer = await post(stand, f"/{NOBODY}/{path}", **body)
        assert (status, answer["error"]["code"]) == (404, "run.not_found")


async def test_events_tell_the_whole_run_with_its_texts(stand: Stand) -> None:
    run_id = await begun(stand)
    await a_long_run(stand, run_id)
    events = await followed(stand, run_id)
    assert [event.data["type"] for event in events] == [
        *("run.accepted", "lease.taken", "model.asked", "model.answered", "tool.asked", "tool.answered"),
        *("lease.taken", "model.asked", "model.answered", "run.ended"),
    ]
    by_type = {event.data["type"]: event.data for event in events}
    assert all(event.data["id"] == event.id for event in events)
    assert by_type["run.accepted"]["messages"] == [{"role": "user", "content": "Count the files."}]
    assert by_type["tool.asked"]["arguments"] == '{"code": "1+1"}'
    assert by_type["tool.answered"]["message"]["content"] == "2"
    assert by_type["run.ended"]["answer"]["content"] == "Two files."
    csv, plot = by_type["tool.answered"]["files"]
    assert (csv["name"], csv["media_type"], plot["name"], plot["media_type"]) == (
        *("out.csv", "text/csv"),
        *("plot.png", "image/png"),
    )
    for file, data in ((csv, b"a,b\n"), (plot, b"png"), (by_type["run.ended"]["files"][0], b"--- a\n")):
        response = await stand.http.get(stand.url + file["url"])
        assert (response.status, await response.read()) == (200, data)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.content_type == file["media_type"]
    response = await stand.http.get(f"{stand.url}/v1/runs/{run_id}/events", headers={"Last-Event-ID": events[-1].id})
    assert response.status == 204


async def test_any_cut_resumes_to_the_identical_list(stand: Stand) -> None:
    """Behind every event, also inside an entry of several; and behind two cuts."""
    run_id = await begun(stand)
    await a_long_run(stand, run_id)
    whole = await followed(stand, run_id)
    for first in range(len(whole) + 1):
        head = whole[:first]
        rest = await followed(stand, run_id, head[-1].id if head else None)
        assert head + rest == whole, first
    for first in range(1, len(whole)):
        head = await followed(stand, run_id, limit=first)
        middle = await followed(stand, run_id, head[-1].id, limit=1)
        assert head + middle + await followed(stand, run_id, middle[-1].id) == whole


@given(
    cuts=st.lists(st.integers(1, 6), max_size=6), page=st.integers(1, 4), silent=st.booleans(), seed=st.integers(0, 9)
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_live_run_that_is_cut_again_and_again(
    make_gateway: MakeGateway, cuts: list[int], page: int, silent: bool, seed: int
) -> None:
    """Whatever is lost of the live messages, however small the pages are."""

    async def scenario() -> None:
        fields = {"page": page, "silent": silent}
        async with make_gateway(metadata=AGENT, coordinator=fields, run_poll_seconds=0.02) as stand:
            run_id = await begun(stand)

            async def work() -> None:
                await a_long_run(stand, run_id)

            working = asyncio.create_task(work())
            heard: list[Event] = []
            for limit in cuts:
                heard += await followed(stand, run_id, heard[-1].id if heard else None, limit)
            heard += await followed(stand, run_id, heard[-1].id if heard else None)
            await working
            assert heard == await followed(stand, run_id)

    asyncio.run(scenario())


async def test_deltas_come_between_and_not_too_late(stand: Stand) -> None:
    run_id = await begun(stand)
    coordinator = stand.coordinator
    assert coordinator is not None
    async with asyncio.timeout(20), stand.http.get(f"{stand.url}/v1/runs/{run_id}/events") as response:
        reading = asyncio.create_task(read_events(response))
        await until(lambda: coordinator.queries > 0)
        await coordinator.whisper(run_id, reasoning="Hm")
        await coordinator.whisper(run_id, content="Do")
        await coordinator.answer(run_id, "Done.")
        await coordinator.whisper(run_id, content="ne.")
        events = await reading
    assert [event.data for event in events if event.data["type"] == "run.delta"] == [
        {"type": "run.delta", "run_id": run_id, "step": 1, "reasoning": "Hm"},
        {"type": "run.delta", "run_id": run_id, "step": 1, "content": "Do"},
    ]
    assert [event.data["type"] for event in events][-2:] == ["model.answered", "run.ended"]
    assert events[1].id == events[0].id, "what is live has no place of its own to resume at"


async def test_long_texts_are_cut_in_the_stream_and_whole_on_demand(stand: Stand) -> None:
    run_id = await begun(stand)
    assert stand.coordinator is not None
    text = "long " * 20_000
    await stand.coordinator.answer(run_id, text)
    answered = (await followed(stand, run_id))[1]
    assert answered.data["message"]["truncated"]
    assert len(answered.data["message"]["content"]) == 32 * 1024
    status, whole = await get(stand, f"/{run_id}/events/{answered.id}")
    assert (status, whole["message"]["content"], whole["id"]) == (200, text, answered.id)
    for missing in ("0", "99999", f"{answered.id}.0", f"{answered.id}9", "x", "1.1.1"):
        status, answer = await get(stand, f"/{run_id}/events/{missing}")
        assert (status, answer["error"]["code"]) == (404, "run.event_not_found"), missing


async def test_a_message_that_has_expired_is_said_to_be(stand: Stand) -> None:
    run_id = await begun(stand)
    assert stand.coordinator is not None
    gone = BlobRef(key="sha256/" + "0" * 64, size_bytes=3)
    ended = RunEnded(outcome="finished", answer=gone)
    await stand.coordinator.append(
        run_id, ModelAnswered(step=1, message=gone, usage=USAGE, finish_reason="stop"), ended
    )
    events = await followed(stand, run_id)
    assert events[-1].data["answer"] == {"role": "assistant", "content": "", "expired": True}


async def test_a_bad_place_to_resume_is_a_400(stand: Stand) -> None:
    run_id = await begun(stand)
    for identifier in ("x", "-1", "1.", "1.2.3", "9" * 30):
        response = await stand.http.get(f"{stand.url}/v1/runs/{run_id}/events", headers={"Last-Event-ID": identifier})
        assert (response.status, (await response.json())["error"]["param"]) == (400, "Last-Event-ID")
    response = await stand.http.get(f"{stand.url}/v1/runs/{run_id}/events?after=x")
    assert (await response.json())["error"]["param"] == "after"


async def test_files_are_outputs_and_the_last_workspace(stand: Stand) -> None:
    run_id = await begun(stand)
    assert await get(stand, f"/{run_id}/files") == (200, {"object": "list", "data": []})
    await a_long_run(stand, run_id)
    _, listed = await get(stand, f"/{run_id}/files")
    assert [(file["name"], file["size_bytes"]) for file in listed["data"]] == [
        ("outputs/changes.patch", 6),
        ("workspace/src/a b.py", 7),
    ]
    for file, data in zip(listed["data"], (b"--- a\n", b"print()"), strict=True):
        response = await stand.http.get(stand.url + file["url"])
        assert (response.status, await response.read()) == (200, data)
    assert response.content_type == "application/octet-stream"
    for missing in ("outputs/x", "workspace/../../x", "events/1/0/x", "events/99/9/x", "x"):
        status, _ = await get(stand, f"/{run_id}/files/{missing}")
        assert status == 404, missing


async def test_more_readers_than_places_are_told_to_come_back(make_gateway: MakeGateway) -> None:
    async with make_gateway(metadata=AGENT, coordinator={}, max_watchers=1) as stand:
        run_id = await begun(stand)
        url = f"{stand.url}/v1/runs/{run_id}/events"
        async with stand.http.get(url) as first:
            assert first.status == 200
            await first.content.readline()
            second = await stand.http.get(url)
            assert second.status == 429
            assert "Retry-After" in second.headers


async def test_readers_do_not_hold_up_a_drain(make_gateway: MakeGateway) -> None:
    async with make_gateway(metadata=AGENT, coordinator={}, drain_seconds=30.0) as stand:
        run_id = await begun(stand)
        async with stand.http.get(f"{stand.url}/v1/runs/{run_id}/events") as response:
            await response.content.readline()
            async with asyncio.timeout(5):
                await stand.stop()


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_run_id(1_700_000_000.0 + number / 1000) for number in range(50)]
    assert ids == sorted(ids)
    assert len({new_run_id(1.0) for _ in range(1000)}) == 1000
    assert all(checked_run_id(run_id) == run_id for run_id in ids)


def test_a_place_inside_an_entry_is_behind_the_entry_before() -> None:
    assert (cut_at("7").sequence, cut_at("7").events) == (7, 0)
    assert (cut_at("7.2").sequence, cut_at("7.2").events) == (6, 2)
