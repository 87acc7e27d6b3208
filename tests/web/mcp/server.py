"""A real MCP server, written with the SDK: ``python -m tests.web.mcp.server FOLDER [stdio|PORT]``.

What it is asked and told it notes as lines of ``FOLDER/said``; ``FOLDER/extra`` makes it list one tool more.
"""

import base64
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import anyio
import mcp_types as types
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from pydantic import BaseModel

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
server = MCPServer("harbour")


def note(line: str) -> None:
    with (FOLDER / "said").open("a") as file:
        file.write(f"{line}\n")


@server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
def tide(port: str) -> str:
    """When is high water?"""
    note(f"tide {port}")
    return f"High water at {port}: noon"


@server.tool(annotations=types.ToolAnnotations(idempotent_hint=True))
def moor(ship: str) -> str:
    """Moor a ship, once however often it is asked."""
    return f"{ship} is moored"


@server.tool(annotations=types.ToolAnnotations(destructive_hint=True))
def sink(ship: str) -> str:
    """Sink a ship."""
    raise ValueError(f"{ship} is unsinkable")


@server.tool()
def chart() -> list[types.ContentBlock]:
    """Everything but text."""
    data = base64.b64encode(PNG).decode()
    return [
        types.TextContent(text="the chart"),
        types.ImageContent(data=data, mime_type="image/jpeg"),
        types.AudioContent(data=base64.b64encode(b"RIFFwave").decode(), mime_type="audio/wav"),
        types.ResourceLink(uri="file:///notes.md", name="notes", mime_type="text/markdown", description="of the pilot"),
        types.EmbeddedResource(resource=types.TextResourceContents(uri="mem:a", text="embedded words")),
        types.EmbeddedResource(
            resource=types.BlobResourceContents(uri="mem:b", blob=data, mime_type="application/octet-stream")
        ),
        types.ImageContent(data="?", mime_type="image/png"),
    ]


@server.tool(structured_output=True)
def depth(port: str) -> dict[str, float]:
    """Metres."""
    return {"metres": 7.5}


@server.tool()
async def wait(ctx: Context, steps: int, pause_seconds: float = 0.05) -> str:
    """Works for a while and says so."""
    note(f"wait begins {os.getpid()}")
    try:
        for step in range(steps):
            await ctx.report_progress(step + 1, steps, f"step {step + 1}")
            await anyio.sleep(pause_seconds)
    except anyio.get_cancelled_exc_class():
        note("wait cancelled")
        raise
    note("wait ends")
    return "done"


@server.tool()
async def grow(ctx: Context) -> str:
    """Lists one tool more from now on."""
    server.add_tool(tide, name="ebb", description="A tool that came later.")
    await ctx.notify_tools_changed()
    return "grown"


@server.tool()
def die() -> str:
    """Ends the server at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool()
async def demand(ctx: Context) -> str:
    """Asks the client for what it does not offer."""
    refused = []
    for method in (ctx.session.list_roots, lambda: ctx.session.elicit("name?", {"type": "object", "properties": {}})):
        try:
            await method()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            refused.append(type(error).__name__)
    return f"refused: {refused}"


class Name(BaseModel):
    name: str


async def who() -> Elicit[Name]:
    return Elicit("Who are you?", Name)


@server.tool()
def greet(person: Annotated[Name, Resolve(who)]) -> str:
    """Asks for a name first."""
    return f"Ahoy {person.name}"


@server.tool()
def secret() -> str:
    """What it was given."""
    return f"{os.environ.get('HARBOUR_KEY')} {os.environ.get('MOONTIDE_TOOLS_MCP_FILE')}"


if __name__ == "__main__":
    note(f"started {os.getpid()}")
    print("the harbour is open", file=sys.stderr, flush=True)
    if (FOLDER / "extra").exists():
        server.add_tool(tide, name="ebb", description="A tool that came later.")
    if sys.argv[2] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
