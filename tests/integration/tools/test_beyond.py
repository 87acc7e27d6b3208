"""The tools beyond the workspace as jobs of the whole service: configured, called, checked, cancelled."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import MediaPart
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.media import MediaFailed, MediaFrame, MediaJob, MediaManifest, MediaPrepared
from schemas.tools import ToolsListed, ToolsQuery
from shared.bus.interface import Job, WorkQueue
from tests.integration.process import ROOT
from tests.integration.tools.stand import Stand, text
from tests.waiting import until
from tests.web.site import redirect, response, site

MEDIA = WorkQueue(stream=names.STREAM_MEDIA, subjects=(names.MEDIA_ALL,), durable=names.DURABLE_INGEST)
DRAW = """
import base64
png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
open("chart.png", "wb").write(base64.b64decode(png))
open("broken.png", "wb").write(base64.b64decode(png)[:40])
"""


@asynccontextmanager
async def ingest(stand: Stand) -> AsyncIterator[list[str]]:
    """Opens what is whole; the names of what it was asked for."""
    bus, asked = stand.broker.bus("ingest"), list[str]()
    frame = MediaFrame(index=0, timestamp_seconds=0.0, jpeg=BlobRef(key="sha256/" + "0" * 64, size_bytes=1))
    manifest = MediaManifest(kind="image", width=1, height=1, frames=(frame,), chunks=(), media_tokens=1)

    async def prepare(delivery: Job) -> None:
        job = decode(delivery.data, MediaJob)
        asked.append(job.name)
        if job.source.size_bytes == 40:
            failure = Failure(code="media.undecodable", message=f"{job.name}: is cut short", status=400)
            outcome: MediaFailed | MediaPrepared = MediaFailed(job_id=job.job_id, failure=failure)
        else:
            outcome = MediaPrepared(job_id=job.job_id, manifest=await stand.blobs.put(encode(manifest)))
        await bus.publish(names.media_outcome(job.job_id), encode(outcome))

    await bus.declare(MEDIA)
    async with bus.consume(MEDIA, prepare, in_flight=2):
        yield asked


async def test_the_web_is_read_where_it_is_allowed(stand: Stand) -> None:
    async with site(a=response(b"<h1>Tides</h1>", "text/html")) as s:
        s.routes["/b"] = redirect(f"http://127.0.0.2:{s.port}/a")
        async with stand.service(fetch_allow=("127.0.0.1",), fetch_ports=(s.port,)):
            assert (await stand.said("fetch", url=s.url("/a"))).endswith("\n\nTides")
            outcome = await stand.call("fetch", url=s.url("/b"))
            assert outcome.failure is not None
            assert (outcome.failure.code, text(outcome)) == (
                *("fetch.forbidden", "error: 127.0.0.2 is not on the public internet"),
            )
        async with stand.service():
            outcome = await stand.call("fetch", url=s.url("/a"))
            assert outcome.failure is not None
            assert outcome.failure.code == "fetch.forbidden"
    assert len(s.asked) == 2


async def test_searching_needs_no_network_and_answers_to_kimis_name(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tides.md").write_text("# Tides\n\nHigh water at noon.")
    async with stand.service(search_providers=("local",), search_folders=(tmp_path / "notes",)):
        found = ""
        while "local:" not in found:  # the first look at the folder may be under way
            found = await stand.said("$web_search", query="water")
        assert "local:notes/tides.md" in found
        assert (await stand.said("fetch", url="local:notes/tides.md")).endswith("High water at noon.")
        outcome = await stand.call("fetch", url="local:notes/../../etc/passwd")
        assert outcome.failure is not None
        assert outcome.failure.code == "search.not_found"


@pytest.mark.skipif(sys.platform != "linux", reason="sandboxes need Linux")
async def test_a_chart_is_drawn_and_looked_at_and_a_broken_one_never_is(stand: Stand) -> None:
    async with ingest(stand) as asked, stand.service():
        drawn = await stand.call("python", code=DRAW)
        assert [part.name for part in drawn.content if isinstance(part, MediaPart)] == ["chart.png"]
        assert "[image not shown: broken.png: is cut short]" in text(drawn)
        looked = await stand.call("look", path="chart.png", question="Which colour?")
        assert text(looked) == "chart.png: image/png, 1x1 pixels\nWhich colour?"
        assert [part.name for part in looked.content if isinstance(part, MediaPart)] == ["chart.png"]
        broken = await stand.call("look", path="broken.png")
        assert broken.failure is not None
        assert (broken.failure.code, broken.content[1:]) == ("media.undecodable", ())
    assert set(asked) == {"chart.png", "broken.png"}


async def test_tools_of_an_mcp_server_are_listed_and_run_as_jobs(stand: Stand, tmp_path: Path) -> None:
    server = {
        "command": sys.executable,
        "args": [str(ROOT / "tests" / "web" / "mcp" / "old_server.py"), str(tmp_path)],
        "approval": "always",
        "overrides": {"slow": {"timeout_seconds": 0.3}},
    }
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"old": server}}))
    async with stand.service(mcp_file=tmp_path / "mcp.json"):
        data = await stand.bus.request(names.SUBJECT_TOOLS_LIST, encode(ToolsQuery()), 5.0)
        listed = {tool.name: tool for tool in decode(data, ToolsListed).tools}
        assert listed["old_grow"].needs_approval
        assert await stand.said("old_grow") == "grown"
        late = await stand.call("old_slow")
        assert late.failure is not None
        assert late.failure.code == "tool.timeout"
        await until(lambda: "notifications/cancelled" in (tmp_path / "said").read_text())
        dead = await stand.call("old_die")
        assert dead.failure is not None
        assert (dead.failure.code, dead.possibly_repeated) == ("mcp.lost", False)
