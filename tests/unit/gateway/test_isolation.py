"""No tenant sees, lists, attaches to or guesses what another has, at any route there is."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import msgspec
import pytest

from schemas import codec
from schemas.chat import CountRequest, TokensCounted
from schemas.failure import Failure
from schemas.runs import RunWaiting, ToolAnswered, ToolAsked
from schemas.telemetry import TraceQuery
from schemas.tools import WorkspaceFile, WorkspaceTree
from services.gateway import files, handlers, seen_media
from services.gateway.run_id import new_run_id
from services.gateway.runs import Runs
from shared.bus.fake import FakeBroker
from tests.isolation import VERDICTS, Route, Things, Walk
from tests.unit.gateway.conftest import MODEL, Stand
from tests.unit.gateway.tenants import Person, recording, write_keys
from tests.unit.gateway.test_media import stored

NOBODYS = Things(
    file_id=f"file-{secrets.token_hex(12)}",
    manifest=f"sha256/{'e' * 64}",
    trace_id=secrets.token_hex(16),
    request_id=f"chatcmpl-{secrets.token_hex(16)}",
    run_id=new_run_id(1e9),
    call_id=f"{new_run_id(1e9)}-1-0",
    event_id="1",
    model=MODEL,
)


@dataclass
class Scene:
    stand: Stand
    alice: Person
    bob: Person
    hers: Things

    async def walk(self, routes: set[Route]) -> None:
        walk = Walk(
            self.stand.http,
            self.stand.url,
            alice=self.alice.key,
            bob=self.bob.key,
            hers=self.hers,
            nobodys=NOBODYS,
        )
        await walk.walk(routes)


@pytest.fixture
async def scene(make_gateway: Any, tmp_path: Path) -> AsyncIterator[Scene]:
    alice, bob = Person("acme"), Person("other")
    keys = write_keys(tmp_path / "keys", alice, bob)
    metadata = {"capabilities": "tools,image,video,thinking"}
    broker = FakeBroker(seed=1)
    async with (
        recording(broker, tmp_path / "recorder"),
        make_gateway(keys_file=keys, coordinator={}, metadata=metadata, broker=broker) as stand,
    ):
        yield Scene(stand, alice, bob, await things_of(stand, alice))


async def things_of(stand: Stand, person: Person) -> Things:
    """A file, a finished chat about a medium with its trace, and a run that waits for an approval."""
    finished = await stored(stand)
    stand.answer.script = lambda request: (
        (TokensCounted(prompt_tokens=1),) if isinstance(request, CountRequest) else (finished,)
    )
    form = aiohttp.FormData()
    form.add_field("purpose", "image")
    form.add_field("file", b"\x89PNG", filename="a.png")
    uploaded = await ask(stand, person, "POST", "/v1/files", data=form)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    chat = await ask(stand, person, "POST", "/v1/chat/completions", json=body)
    run = await ask(stand, person, "POST", "/v1/runs", json={"model": MODEL, "goal": "Count."})
    assert stand.coordinator is not None
    tree = WorkspaceTree(files=(WorkspaceFile(path="a", content=await stand.blobs.put(b"text")),))
    arguments = await stand.blobs.put(b"{}")
    call_id = f"{run['id']}-1-0"
    asked = ToolAsked(step=1, call_id=call_id, tool_call_id="c", tool="shell", arguments=arguments, needs_approval=True)
    done = ToolAnswered(
        step=1,
        call_id=f"{run['id']}-1-1",
        message=await stand.coordinator.say("done", "tool"),
        workspace=await stand.blobs.put(codec.encode(tree)),
    )
    waiting = RunWaiting(failure=Failure(code="run.approval", message="a call waits", status=409))
    numbered = await stand.coordinator.append(run["id"], asked, done, waiting)
    for id in (chat["moontide"]["trace_id"], run["id"]):
        await trace_arrived(stand, person, id)
    return Things(
        file_id=uploaded["id"],
        manifest=finished.media[0].manifest.key,
        trace_id=chat["moontide"]["trace_id"],
        request_id=chat["id"],
        run_id=run["id"],
        call_id=call_id,
        event_id=str(numbered.sequence),
        model=MODEL,
    )


async def ask(stand: Stand, person: Person, method: str, path: str, **body: Any) -> Any:
    async with stand.http.request(method, stand.url + path, headers=person.headers, **body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def trace_arrived(stand: Stand, person: Person, id: str) -> None:
    async with asyncio.timeout(10):
        while True:
            async with stand.http.get(f"{stand.url}/v1/traces/{id}", headers=person.headers) as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.02)


async def test_every_route_has_a_verdict(routes: set[Route]) -> None:
    assert routes == VERDICTS.keys()


async def test_two_tenants_at_every_route(scene: Scene, routes: set[Route]) -> None:
    await scene.walk(routes)
    assert scene.stand.coordinator is not None
    assert {command.principal.tenant for command in scene.stand.coordinator.commands} == {"acme"}
    assert {run.context.principal.tenant for run in scene.stand.coordinator.submitted} == {"acme"}


@pytest.mark.parametrize(
    ("place", "found_at"),
    [(files, "/v1/files"), (seen_media, "/v1/media")],
)
async def test_records_that_everybody_shares_are_found(
    scene: Scene, routes: set[Route], place: Any, found_at: str
) -> None:
    with patch.object(place, "_kind", lambda principal: "of-everybody"):
        hers = await things_of(scene.stand, scene.alice)
        with pytest.raises(AssertionError, match=found_at):
            await Scene(scene.stand, scene.alice, scene.bob, hers).walk(routes)


@pytest.mark.parametrize("method", ["get", "list", "entries", "command"])
async def test_a_coordinator_that_is_not_told_who_asks_is_found(scene: Scene, routes: set[Route], method: str) -> None:
    """The gateway's part of a run's isolation: it says who asks, each time."""
    assert scene.stand.coordinator is not None
    ask = Runs._ask

    async def as_alice(runs: Runs, subject: str, question: Any, kind: Any) -> Any:
        if subject.endswith(f".{method}"):
            owner = scene.stand.coordinator.submitted[0].context.principal  # type: ignore[union-attr]
            question = msgspec.structs.replace(question, principal=owner)
        return await ask(runs, subject, question, kind)

    with patch.object(Runs, "_ask", as_alice), pytest.raises(AssertionError, match="/v1/runs"):
        await scene.walk(routes)


async def test_a_trace_asked_for_by_nobody_in_particular_is_found(scene: Scene, routes: set[Route]) -> None:
    with (
        patch.object(handlers, "TraceQuery", lambda id, principal: TraceQuery(id=id)),
        pytest.raises(AssertionError, match="/v1/traces"),
    ):
        await scene.walk(routes)


async def test_keys_of_one_tenant_share_and_an_idempotency_key_is_ones_own(make_gateway: Any, tmp_path: Path) -> None:
    alice, colleague, bob = Person("acme", 1), Person("acme", 2), Person("other")
    keys = write_keys(tmp_path / "keys", alice, colleague, bob)
    async with make_gateway(keys_file=keys, coordinator={}, metadata={"capabilities": "tools"}) as stand:
        run = {"json": {"model": MODEL, "goal": "Count."}}
        ids = []
        for person in (alice, alice, bob):
            headers = person.headers | {"Idempotency-Key": "order 7"}
            async with stand.http.post(f"{stand.url}/v1/runs", headers=headers, **run) as response:
                ids.append((await response.json())["id"])
        assert ids[0] == ids[1] != ids[2]
        assert (await ask(stand, colleague, "GET", f"/v1/runs/{ids[0]}"))["id"] == ids[0]
        listed = await ask(stand, colleague, "GET", "/v1/runs")
        assert [item["id"] for item in listed["data"]] == [ids[0]]
