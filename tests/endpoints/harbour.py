"""The world outside, as missions meet it: a page to fetch, and an MCP server whose effects are counted.

``python -m tests.endpoints.harbour page --port P`` serves notices, a code word for each label. ``… mcp --log FILE`` is
a stdio MCP server; each effect is a line of JSON in the log. A note with a key that the log knows happens no second
time, as idempotency keys promise; announcements and shouts have none, and happen whenever they are asked for.
"""

import argparse
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from mcp.server.mcpserver import Context, MCPServer

PAUSE_SECONDS = 0.2
"""Between an effect and its answer: whoever is killed in it does not know whether it happened."""
KEY = "io.moontide/callId"


def code_word(label: str) -> str:
    """Depends on the mission's seed alone, so that every run of it finds the same."""
    digest = hashlib.sha256(label.encode()).digest()
    return f"{('kelp', 'brine', 'ebb', 'neap')[digest[0] % 4]}-{int.from_bytes(digest[1:3], 'big')}"


async def notice(request: web.Request) -> web.Response:
    word = code_word(request.match_info["label"])
    body = f"<h1>Notice</h1><p>To mariners: the code word is {word} today.</p>"
    page = f"<html><head><title>Notice</title></head><body>{body}</body></html>"
    return web.Response(text=page, content_type="text/html")


def serve_pages(port: int) -> None:
    app = web.Application()
    app.add_routes([web.get("/notice/{label}", notice)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


class EffectLog:
    """Lines of JSON, shared by several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def happen(self, tool: str, text: str, key: str, *, keyed: bool) -> bool:
        """False: known already, nothing happened."""
        with self._locked() as file:
            known = {row["key"] for row in map(json.loads, file) if row["happened"] and row["keyed"]}
            happened = not (keyed and key in known)
            row = {"time": time.time(), "tool": tool, "text": text, "key": key, "keyed": keyed, "happened": happened}
            file.write(json.dumps(row) + "\n")
        return happened

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def server(log: EffectLog, pause_seconds: float) -> MCPServer:
    mcp = MCPServer("harbour", log_level="ERROR")

    @mcp.tool()
    def note(text: str, context: Context[Any]) -> str:
        """Notes something in the harbour's book, once for each idempotency key."""
        log.happen("note", text, _key(context), keyed=True)
        time.sleep(pause_seconds)
        return f"noted: {text}"

    @mcp.tool()
    def announce(text: str, context: Context[Any]) -> str:
        """Announces something to everybody."""
        log.happen("announce", text, _key(context), keyed=False)
        time.sleep(pause_seconds)
        return f"announced: {text}"

    @mcp.tool()
    def shout(text: str, context: Context[Any]) -> str:
        """Shouts something across the water."""
        log.happen("shout", text, _key(context), keyed=False)
        time.sleep(pause_seconds)
        return f"shouted: {text}"

    return mcp


def _key(context: Context[Any]) -> str:
    """The call's idempotency key, as its client sends it beside the arguments."""
    return str((context.request_context.meta or {}).get(KEY, ""))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.endpoints.harbour")
    parser.add_argument("what", choices=("page", "mcp"))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--pause", type=float, default=PAUSE_SECONDS, help="seconds between an effect and its answer")
    parsed = parser.parse_args()
    if parsed.what == "page":
        serve_pages(parsed.port)
    else:
        server(EffectLog(parsed.log), parsed.pause).run("stdio")


if __name__ == "__main__":
    main()
