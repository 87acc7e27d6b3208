"""One live connection to a server: its tools, calls with progress and cancelling, and word of every change.

Input: a server's configuration. Output: listed tools and results; the SDK's errors as ours. Offered to servers is
what is real here: neither sampling nor elicitation nor roots. One of the files that know the ``mcp`` SDK. Must not know
registries.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import httpx2
import mcp_types as types
import pydantic
from mcp.client import Client, IncomingMessage
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from services.tools.mcp.config import McpServer, McpServers
from services.tools.mcp.content import listed, result
from services.tools.mcp.discovery import ListedTool
from services.tools.mcp.transport import transport
from services.tools.tool import Call, Result
from shared.errors import BadInput, MoontideError, Unavailable

MAX_PAGES = 64
MAX_TOOLS = 512
CALL_ID = "io.moontide/callId"
"""In a call's ``_meta``: the idempotency key, for servers that know what to do with it."""
PROGRESS_CHARS = 300
MAX_ROUNDS = 8
ANSWER: pydantic.TypeAdapter[types.CallToolResult | types.InputRequiredResult] = pydantic.TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
ASKS = (types.MISSING_REQUIRED_CLIENT_CAPABILITY, types.URL_ELICITATION_REQUIRED)
SESSION_GONE = "Session terminated"
"""What the SDK says when a server answers 404 to a session that it gave."""
BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
FOREIGN = (MCPError, httpx2.HTTPError, OSError, RuntimeError, ValueError, *BROKEN)
"""What the SDK raises for a peer that does not answer as it should (pydantic's errors are ValueErrors)."""
LOG = logging.getLogger("tools.mcp")


class Connection:
    def __init__(self, name: str, server: McpServer) -> None:
        self._name = name
        self._server = server
        self.changed = asyncio.Event()
        """The server says that its tools are others now."""
        self.ended = asyncio.Event()
        self._client: Client
        self._last_words = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str, server: McpServer, config: McpServers) -> AsyncIterator["Connection"]:
        """Raises Unavailable(``mcp.down``) when the server cannot be reached, or breaks so that the SDK gives up."""
        this = cls(name, server)
        try:
            async with asyncio.timeout(server.connect_seconds) as patience:
                this._client = this._new_client(config)
                async with this._client:
                    patience.reschedule(None)
                    async with this._listening():
                        yield this
        except (*FOREIGN, TimeoutError) as error:
            raise this._down(error) from None
        except BaseExceptionGroup as errors:
            raise _first_of_ours(errors) or this._down(errors) from None
        finally:
            this.ended.set()

    async def tools(self) -> list[ListedTool]:
        """Raises Unavailable(``mcp.down``)."""
        found: list[ListedTool] = []
        cursor: str | None = None
        try:
            for _ in range(MAX_PAGES):
                page = await self._client.list_tools(cursor=cursor, cache_mode="bypass")
                found += [listed(tool) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None or len(found) > MAX_TOOLS:
                    break
        except FOREIGN as error:
            raise self._down(error) from None
        return found[:MAX_TOOLS]

    async def call(self, tool: ListedTool, call: Call) -> Result:
        """Cancelling tells the server. Raises BadInput where the tool refuses, Unavailable where the server fails."""

        async def told(progress: float, total: float | None, message: str | None) -> None:
            share = f"{progress:g} of {total:g}" if total else f"{progress:g}"
            call.progress(f"{message or 'working'} ({share})"[:PROGRESS_CHARS])

        try:
            answer = await self._answered(tool, call, told)
        except FOREIGN as error:
            raise self._failed(tool, error) from None
        return await result(tool, answer, call.blobs)

    async def _answered(self, tool: ListedTool, call: Call, told: ProgressFnT) -> types.CallToolResult:
        """A server may want to be asked again with its state, but not to be told more: there is nobody to tell it."""
        state: str | None = None
        for _ in range(MAX_ROUNDS):
            parameters = types.CallToolRequestParams(
                name=tool.name, arguments=call.arguments, request_state=state, _meta=_meta(call)
            )
            request = types.CallToolRequest(params=parameters)
            answer = await self._client.session.send_request(request, ANSWER, progress_callback=told)
            if isinstance(answer, types.CallToolResult):
                return answer
            if answer.input_requests:
                break
            state = answer.request_state
        raise _asks(tool, "it asks back")

    def _new_client(self, config: McpServers) -> Client:
        return Client(
            transport(self._server, config, self.ended.set, self._overhear),
            read_timeout_seconds=self._server.connect_seconds,
            message_handler=self._hear,
            client_info=types.Implementation(name="moontide", version="0.1.0"),
            cache=None,
        )

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed.set()

    def _overhear(self, line: str) -> None:
        LOG.debug("server says", extra={"server": self._name, "line": line})
        self._last_words = line or self._last_words

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Servers of the newer protocol tell of changes to those who ask; the older ones by themselves."""
        tools = self._client.server_capabilities.tools
        asks = self._client.protocol_version in MODERN_PROTOCOL_VERSIONS and tools is not None and tools.list_changed
        hearing = asyncio.create_task(self._listen()) if asks else None
        try:
            yield
        finally:
            if hearing is not None:
                hearing.cancel()
                await asyncio.wait([hearing])

    async def _listen(self) -> None:
        try:
            async with self._client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self.changed.set()
        except (*FOREIGN, SubscriptionLost, TimeoutError) as error:
            LOG.info("changes are no longer told", extra={"server": self._name, "reason": _words(error)})

    def _failed(self, tool: ListedTool, error: BaseException) -> MoontideError:
        if isinstance(error, MCPError) and error.code == types.INVALID_PARAMS:
            return BadInput("mcp.tool_error", f"{tool.name}: {error.message[:1000]}")
        if isinstance(error, MCPError) and error.code in ASKS:
            return _asks(tool, error.message[:300])
        if isinstance(error, MCPError) and error.code not in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT):
            if error.message == SESSION_GONE:  # and so nothing was done
                self.ended.set()
                return Unavailable("mcp.down", f"the MCP server {self._name} forgot us; it is connected again")
            return Unavailable("mcp.failed", f"{tool.name} failed: {error.message[:1000]}", status=502)
        if isinstance(error, pydantic.ValidationError):
            return Unavailable("mcp.bad_result", f"the server's answer to {tool.name} is not one of MCP", status=502)
        self.ended.set()
        text = f"the MCP server {self._name} went away during {tool.name}, which may have been done or not"
        return Unavailable("mcp.lost", text, status=502)

    def _down(self, error: BaseException) -> Unavailable:
        said = f"; its last words: {self._last_words[:200]}" if self._last_words else ""
        return Unavailable("mcp.down", f"the MCP server {self._name} cannot be used: {_words(error)}{said}")


def _asks(tool: ListedTool, words: str) -> BadInput:
    return BadInput(
        "mcp.asks", f"{tool.name} wants something of a person or a model here, which is not offered: {words}"
    )


def _meta(call: Call) -> types.RequestParamsMeta:
    return cast(types.RequestParamsMeta, {CALL_ID: call.call_id})


def _words(error: BaseException) -> str:
    """For operators; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return f"{type(error).__name__}: {str(error)[:200]}"


def _first_of_ours(errors: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Cancellation and our own errors pass through the SDK's task groups."""
    for kind in (asyncio.CancelledError, MoontideError):
        found = errors.subgroup(kind)
        if found is not None:
            error: BaseException = found
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            return error
    return None
