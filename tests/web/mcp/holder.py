"""Keeps the servers of a configuration until it is killed: ``python -m tests.web.mcp.holder FILE``."""

import asyncio
import sys
from pathlib import Path

from services.tools.mcp.servers import mcp_servers
from services.tools.registry import Registry


async def main() -> None:
    registry = Registry()
    async with mcp_servers(Path(sys.argv[1]), registry):
        print("held" if registry.declarations() else "nothing", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
