"""The world of the web escapes: an attacker's site at public addresses, a canary at all others and on other ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from tests.web.site import Script, response

PUBLIC, PUBLIC_V6 = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"
PORTS = (80, 22, 6379, 3128)


@dataclass
class World:
    routes: dict[str, bytes | Script] = field(default_factory=dict)
    """What the attacker's site answers."""
    canary: list[tuple[str, int]] = field(default_factory=list)
    """Where connections went that none should go."""

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["World"]:
        """Serves until the block ends; nobody is waited for."""
        world, tasks = cls(), set[asyncio.Task[None]]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(world.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        servers = [await asyncio.start_server(accept, host, port) for host in ("0.0.0.0", "::") for port in PORTS]
        try:
            yield world
        finally:
            for server in servers:
                server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("sockname")[:2]
        try:
            if port != 80 or ip_address(host) not in (ip_address(PUBLIC), ip_address(PUBLIC_V6)):
                self.canary.append((host, port))
                return
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            answer = self.routes.get(head.split(" ")[1], response(b"not here", status="404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
