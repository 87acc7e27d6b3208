"""A gate between a client and the broker that loses what a test wants lost: requests, answers, or the connection.

In: the broker's port. Out: a port of its own. Bytes pass both ways until it is told otherwise.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class Gate:
    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.swallow_requests = False
        self.swallow_answers = False
        self.swallowed = asyncio.Event()
        """Something was."""
        self.passed_on = asyncio.Event()
        """A request passed while answers are swallowed."""
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Gate"]:
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Ends the connections that pass here."""
        for writer in list(self._writers):
            writer.close()

    def swallow(self, *, requests: bool = False, answers: bool = False) -> None:
        self.swallow_requests, self.swallow_answers = requests, answers
        self.swallowed.clear()
        self.passed_on.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, server_writer}
        try:
            await asyncio.gather(
                self._carry(reader, server_writer, requests=True), self._carry(server_reader, writer, requests=False)
            )
        finally:
            self._writers -= {writer, server_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.swallow_requests if requests else self.swallow_answers:
                    self.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()
                if requests and self.swallow_answers and b"moontide.v1.ledger" in data:
                    self.passed_on.set()
        writer.close()
