"""One server for as long as we live: connected, listed, connected again with growing pauses; its tools in the registry.

Input: a server's configuration and a registry. Output: tools that come and go with what the server lists. While it is
down its tools stay and refuse clearly, and nothing else suffers. Must not know the SDK.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from schemas.tools import ToolDeclaration
from services.tools.mcp.config import McpServer, McpServers
from services.tools.mcp.connection import Connection
from services.tools.mcp.discovery import ListedTool, declaration
from services.tools.registry import Registry
from services.tools.tool import Call, Result
from shared.errors import BadInput, MoontideError, Unavailable

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 60.0
LOG = logging.getLogger("tools.mcp")


@dataclass(frozen=True)
class McpTool:
    """A tool under our name."""

    declaration: ToolDeclaration
    listed: ListedTool
    server: "ServerKeeper"

    async def run(self, call: Call) -> Result:
        connection = self.server.connection()
        call.progress(f"asking {self.server.name}")
        return await connection.call(self.listed, call)


class ServerKeeper:
    def __init__(self, name: str, server: McpServer, config: McpServers, registry: Registry) -> None:
        self.name = name
        self._server = server
        self._config = config
        self._registry = registry
        self._connection: Connection | None = None
        self._tools: dict[str, McpTool] = {}
        self._reason = "it has not answered yet"
        self._wanted = asyncio.Event()
        self.settled = asyncio.Event()
        """The first attempt is over: its tools are there, or it is known to be down."""

    def connection(self) -> Connection:
        """Raises Unavailable(``mcp.down``) at once, and has the server tried again now."""
        if self._connection is None or self._connection.ended.is_set():
            self._wanted.set()
            raise Unavailable("mcp.down", f"the MCP server {self.name} is down: {self._reason}")
        return self._connection

    async def keep(self) -> None:
        """Never returns. One task for all of a server's life, since the SDK wants to be left where it was entered."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with Connection.open(self.name, self._server, self._config) as connection:
                    await self._serve(connection)
                    pause = FIRST_PAUSE_SECONDS
            except MoontideError as error:
                self._note(error.message)
            except Exception as error:  # noqa: BLE001 - a fault of the SDK is one server's trouble, not ours
                self._note(f"{type(error).__name__}")
            finally:
                self._connection = None
                self.settled.set()
            await self._pause(pause)
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    async def _serve(self, connection: Connection) -> None:
        """Until the connection ends: tools are listed now, when the server says so, and from time to time."""
        while not connection.ended.is_set():
            connection.changed.clear()
            self._offer(await connection.tools())
            self._connection = connection
            self.settled.set()
            await _either(connection.changed, connection.ended, self._server.refresh_seconds)
        self._note("its connection ended")

    async def _pause(self, seconds: float) -> None:
        """Shorter when somebody wants the server."""
        self._wanted.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
                await asyncio.sleep(min(seconds, FIRST_PAUSE_SECONDS))

    def _offer(self, tools: list[ListedTool]) -> None:
        """The registry holds what is listed now, and nothing that is not."""
        wanted: dict[str, McpTool] = {}
        for tool in tools:
            declared = declaration(self.name, self._server, tool)
            if declared is not None and declared.name not in wanted:
                wanted[declared.name] = McpTool(declared, tool, self)
        for name in [name for name, tool in self._tools.items() if wanted.get(name) != tool]:
            self._registry.remove(name)
            del self._tools[name]
        for name in wanted.keys() - self._tools.keys():
            self._add(wanted[name])

    def _add(self, tool: McpTool) -> None:
        try:
            self._registry.add(tool)
        except BadInput as error:
            LOG.warning(
                "tool not offered", extra={"server": self.name, "tool": tool.listed.name, "reason": error.message}
            )
        else:
            self._tools[tool.declaration.name] = tool

    def _note(self, reason: str) -> None:
        self._reason = reason
        LOG.warning("server is down", extra={"server": self.name, "reason": reason})


async def _either(first: asyncio.Event, second: asyncio.Event, seconds: float) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
