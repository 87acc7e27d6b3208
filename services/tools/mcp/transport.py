"""How a server is reached: its process over stdio, or its URL over streamable HTTP; an end of either is noticed.

Input: a server's configuration. Output: a transport for the SDK. Processes are tethered to ours, inherit nothing but
the path and the like, and what they write to standard error is heard. Answers are bounded, proxies and cookies of the
environment ignored. One of the files that know the ``mcp`` SDK. Must not know tools.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import anyio
import httpx2
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from services.tools.mcp.config import McpServer, McpServers
from services.tools.mcp.confinement import words
from services.tools.mcp.credentials import authentication

TETHER = Path(__file__).with_name("tether.py")
LINE_CHARS = 2000
ANSWER_BYTES = 32 * 1024 * 1024
"""Of one HTTP answer that is not a stream; an event of a stream has the SDK's limit."""
READ_SECONDS = 300.0

Ended = Callable[[], None]
Heard = Callable[[str], None]


def transport(
    server: McpServer, config: McpServers, ended: Ended, heard: Heard
) -> AbstractAsyncContextManager[TransportStreams]:
    """``ended`` is called when nothing more will come, ``heard`` with each line that a process writes to its standard
    error. Entering raises OSError, httpx2.HTTPError, Unavailable (a secret that cannot be read)."""
    return _watched(_http(server, config) if server.url is not None else _stdio(server, config, heard), ended)


@asynccontextmanager
async def _stdio(server: McpServer, config: McpServers, heard: Heard) -> AsyncIterator[TransportStreams]:
    assert server.command is not None
    directory = config.folder / server.cwd if server.cwd is not None else None
    confined = words(server.sandbox, config.folder, directory) if server.sandbox is not None else []
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-I", str(TETHER), str(os.getpid()), *confined, server.command, *server.args],
        env={key: config.text(value) for key, value in server.env.items()},
        cwd=directory,
    )
    async with _listened(heard) as errors, stdio_client(parameters, errors) as streams:
        yield streams


@asynccontextmanager
async def _http(server: McpServer, config: McpServers) -> AsyncIterator[TransportStreams]:
    assert server.url is not None
    client = httpx2.AsyncClient(
        headers={key: config.text(value) for key, value in server.headers.items()},
        timeout=httpx2.Timeout(server.connect_seconds, read=READ_SECONDS),
        auth=authentication(server.url, server.oauth, config),
        transport=_Bounded(httpx2.AsyncHTTPTransport(trust_env=False)),
        trust_env=False,
    )
    async with client, streamable_http_client(server.url, http_client=client) as streams:
        yield streams


class _Bounded(httpx2.AsyncBaseTransport):
    """Whole answers up to a limit. A longer one ends the connection."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ANSWER_BYTES
        async for piece in self._inner:
            left -= len(piece)
            if left < 0:
                raise httpx2.ReadError("the answer is longer than is read")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def _listened(heard: Heard) -> AsyncIterator[TextIO]:
    """Something to write to, which is heard line by line."""
    reading, writing = os.pipe()
    lines = asyncio.StreamReader(limit=LINE_CHARS)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(reading, "rb"))
    hearing = asyncio.create_task(_hear(lines, heard))
    with os.fdopen(writing, "w") as errors:
        try:
            yield errors
        finally:
            pipe.close()
            hearing.cancel()
            await asyncio.wait([hearing])


async def _hear(lines: asyncio.StreamReader, heard: Heard) -> None:
    while True:
        try:
            line = await lines.readline()
        except ValueError:  # longer than the limit: what was read of it is gone
            continue
        if not line:
            return
        heard(line.decode("utf-8", "replace").strip())


@asynccontextmanager
async def _watched(
    inner: AbstractAsyncContextManager[TransportStreams], ended: Ended
) -> AsyncIterator[TransportStreams]:
    async with inner as (reading, writing):
        yield _Watched(reading, ended), writing


class _Watched:
    """A read stream whose end is told."""

    def __init__(self, inner: ReadStream[SessionMessage | Exception], ended: Ended) -> None:
        self._inner = inner
        self._ended = ended

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._ended()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> ReadStream[SessionMessage | Exception]:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)

    @property
    def last_context(self) -> object:
        return getattr(self._inner, "last_context", None)
