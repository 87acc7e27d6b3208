"""An MCP server of the 2025-06-18 protocol over streamable HTTP, without an SDK, in the test's own process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class OldSite:
    """Its tool ``tide`` answers with the number of the session; ``flood`` with more than anybody reads."""

    url: str = ""
    sessions: set[str] = field(default_factory=set)
    """Emptied: everybody is forgotten."""
    keys: list[str] = field(default_factory=list)
    calls: int = 0
    begun: int = 0

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization", ""))
        message = await request.json()
        if message["method"] == "initialize":
            self.begun += 1
            self.sessions.add(f"session-{self.begun}")
            about = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "old", "version": "1"}}
            result: dict[str, Any] = {**about, "capabilities": {"tools": {}}}
            return self._answer(message, result, {"Mcp-Session-Id": f"session-{self.begun}"})
        if request.headers.get("Mcp-Session-Id") not in self.sessions:
            return web.Response(status=404 if "Mcp-Session-Id" in request.headers else 400)
        if "id" not in message:
            return web.Response(status=202)
        return await self._asked(request, message)

    async def _asked(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        if message["method"] == "tools/list":
            listed = [{"name": name, "inputSchema": {"type": "object"}} for name in ("tide", "flood")]
            return self._answer(message, {"tools": listed})
        if message["params"]["name"] == "flood":
            return await self._flood(request)
        self.calls += 1
        text = f"told in session {request.headers['Mcp-Session-Id']}"
        return self._answer(message, {"content": [{"type": "text", "text": text}]})

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * (1 << 20))

    def _answer(
        self, message: dict[str, Any], result: dict[str, Any], headers: dict[str, str] | None = None
    ) -> web.Response:
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)


@asynccontextmanager
async def old_site() -> AsyncIterator[OldSite]:
    this = OldSite()
    application = web.Application()
    application.router.add_post("/mcp", this.post)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    this.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    try:
        yield this
    finally:
        await runner.cleanup()
