"""Child processes that tests kill, freeze and read."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from shared.bus.broker import Broker

ROOT = Path(__file__).parents[2]
LINE_SECONDS = 15.0


class Child:
    """A running ``python -m module arguments…`` whose lines are read one by one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, timeout_seconds: float = LINE_SECONDS) -> list[str]:
        """The next line as words; empty at the end of the output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout_seconds):
            return (await self._process.stdout.readline()).decode().split()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def is_stopped(self) -> bool:
        """By SIGSTOP, whoever sent it."""
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def exit_code(self) -> int:
        async with asyncio.timeout(LINE_SECONDS):
            return await self._process.wait()


@asynccontextmanager
async def running(module: str, *arguments: str) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    child = Child(process)
    try:
        yield child
    finally:
        await child.kill()


def coordinates(broker: Broker) -> tuple[str, str, str]:
    """What a child needs to reach the broker, as arguments."""
    return broker.url, broker.user, str(broker.password_file)
