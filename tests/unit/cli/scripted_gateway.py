"""A gateway that answers from a script, on a free port, in a thread of its own; it records what it was asked."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from schemas import codec
from schemas.blobs import BlobRef
from schemas.media import MediaFrame, MediaManifest

MODEL = "scripted"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
REASONING = ("It ", "moves.")
CONTENT = ("A ball ", "bounces.")
CITING = "At 0:04 <b>it</b> bounces. It rests at 12.5 s, and not at 14 s."
"""Of a video of 13 s whose frames are half a second and 15 source frames apart."""
JPEG = b"\xff\xd8\xff"
USAGE = {"prompt_tokens": 702, "completion_tokens": 4, "prompt_tokens_details": {"media_tokens": 588}}
TIMINGS = {"ingest_seconds": 0.25, "prefill_seconds": 0.5, "decode_seconds": 0.125}
MEDIA = {
    "name": "clip.mp4",
    "kind": "video",
    "width": 320,
    "height": 180,
    "duration_seconds": 13.0,
    "sampled_frames": 26,
    "chunks": 7,
    "media_tokens": 588,
    "manifest": f"sha256/{'0' * 64}",
}
TRACE = {
    "trace_id": TRACE_ID,
    "spans": [{"span_id": "1", "parent_span_id": "", "end_unix_nanoseconds": 2, "start_unix_nanoseconds": 1}],
}


def manifest() -> MediaManifest:
    jpeg = BlobRef(key=f"sha256/{'1' * 64}", size_bytes=3)
    frames = tuple(MediaFrame(index=n * 15, timestamp_seconds=n / 2, jpeg=jpeg) for n in range(26))
    return MediaManifest(
        kind="video", width=320, height=180, duration_seconds=13.0, frames=frames, chunks=(), media_tokens=588,
        scene_cuts_seconds=(4.2, 8.0), contact_sheet=jpeg,
    )  # fmt: skip


class ScriptedGateway:
    """``uploads``: (name, bytes, purpose); ``requests``: bodies of chats; ``cuts``: chats to break off in the middle;
    ``refusals``: (status, headers, error) for the next chats."""

    def __init__(self) -> None:
        self.url = ""
        self.uploads: list[tuple[str, bytes, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.content = CONTENT
        self.has_media = True
        self.cuts = 0
        self.refusals: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.at_once = 0
        self.most_at_once = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/files", self._files)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/traces/{id}", self._trace)
        app.router.add_get("/v1/media/sha256/{digest}", self._manifest)
        app.router.add_get("/v1/media/sha256/{digest}/{picture:.*}", self._picture)
        return app

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _manifest(self, request: web.Request) -> web.Response:
        if not self.has_media:
            return web.json_response({"error": {"message": "no such media", "code": "media.not_found"}}, status=404)
        return web.Response(body=codec.encode_json(manifest()), content_type="application/json")

    async def _picture(self, request: web.Request) -> web.Response:
        return web.Response(body=JPEG + request.match_info["picture"].encode(), content_type="image/jpeg")

    async def _trace(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != TRACE_ID:
            return web.json_response({"error": {"message": "no such trace", "code": "trace.unknown"}}, status=404)
        return web.json_response(TRACE)

    async def _files(self, request: web.Request) -> web.Response:
        purpose, name, data = "", "", b""
        async for part in await request.multipart():
            if part.name == "purpose":
                purpose = await part.text()
            else:
                name, data = part.filename, bytes(await part.read())
        self.uploads.append((name, data, purpose))
        if data.startswith(b"broken"):
            error = {"message": f"{name} cannot be decoded", "code": "media.undecodable", "param": name}
            return web.json_response({"error": error}, status=400)
        return web.json_response({"id": f"file-{len(self.uploads)}", "object": "file"})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        if self.refusals:
            status, headers, error = self.refusals.pop(0)
            return web.json_response({"error": error}, status=status, headers=headers)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._stream(request)
        finally:
            self.at_once -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(events(self.content)):
            if number == 3 and self.cuts:
                self.cuts -= 1
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(b": still here\n\ndata: " + json.dumps(event).encode() + b"\n\n")
            await asyncio.sleep(0)
        await response.write(b"data: [DONE]\n\n")
        return response


def events(content: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for text in REASONING:
        yield _chunk({"reasoning_content": text})
    for text in content:
        yield _chunk({"content": text})
    yield _chunk({}, "stop")
    yield {
        "model": MODEL,
        "choices": [],
        "usage": USAGE,
        "moontide": {"trace_id": TRACE_ID, "request_id": "r1", "media": [MEDIA], "timings": TIMINGS},
    }


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"model": MODEL, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


@contextmanager
def serving(gateway: ScriptedGateway) -> Iterator[ScriptedGateway]:
    """The command runs in the main thread (it handles signals), so the gateway does not."""
    with _loop_in_a_thread() as call:
        runner = web.AppRunner(gateway.app())

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            gateway.url = f"http://{host}:{port}"

        call(start())
        try:
            yield gateway
        finally:
            call(runner.cleanup())


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
