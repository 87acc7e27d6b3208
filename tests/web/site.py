"""A scripted web server on loopback: what it says is bytes, so that it can say anything."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Site:
    """``routes``: what a path is answered with. ``asked``: the request heads that came, in order."""

    address: str
    port: int
    routes: dict[str, bytes | Script] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str, host: str = "") -> str:
        return f"http://{host or self.address}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.asked.append(head)
            answer = self.routes.get(head.split(" ")[1], response(b"not here", status="404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def site(
    address: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, **routes: bytes | Script
) -> AsyncIterator[Site]:
    """Serves until the block ends; nobody is waited for."""
    tasks: set[asyncio.Task[None]] = set()
    this = Site(address, 0, {f"/{name}": answer for name, answer in routes.items()})

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(this.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, address, 0, ssl=tls)
    this.port = server.sockets[0].getsockname()[1]
    try:
        yield this
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def response(body: bytes, kind: str = "text/plain", *, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return response(b"elsewhere", status=status, Location=location)


def drip(head: bytes, piece: bytes, pause_seconds: float = 0.0, count: int | None = None) -> Script:
    """``head``, then ``piece`` again and again with pauses, until the reader leaves or ``count`` were sent."""

    async def run(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        sent = 0
        while count is None or sent < count:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
            sent += 1

    return run


def gzip_bomb(size_bytes: int) -> bytes:
    """A small answer that unpacks to so many bytes."""
    return response(gzip.compress(b"0" * size_bytes, 9), Content_Encoding="gzip")
