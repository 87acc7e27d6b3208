"""All configured servers, kept while a block lasts.

Input: the configuration's file and a registry. Output: nothing but tools in the registry. Must not know the SDK.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.tools.mcp.config import read_servers
from services.tools.mcp.server import ServerKeeper
from services.tools.registry import Registry

SETTLE_SECONDS = 15.0
"""How long the start waits for first answers: who asks for tools right after it should see them all."""


@asynccontextmanager
async def mcp_servers(path: Path, registry: Registry) -> AsyncIterator[None]:
    """Entered: every server has answered, failed, or had its time. Left: their processes are gone. Raises BadInput
    (``mcp.config``)."""
    config = read_servers(path)
    keepers = [ServerKeeper(name, server, config, registry) for name, server in config.servers.items()]
    keeping = [asyncio.create_task(keeper.keep(), name=f"mcp {keeper.name}") for keeper in keepers]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.gather(*(keeper.settled.wait() for keeper in keepers))
        yield
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
