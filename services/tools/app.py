"""Wiring of the tools service: scratch folder, workspaces, tools, consumer; ended in reverse order."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from schemas import names
from services.tools import cgroup
from services.tools.config import ToolsConfig
from services.tools.execution import Execution
from services.tools.handlers import ListTools, RunTools
from services.tools.local import private, sandbox_bounds, tools
from services.tools.media_check import AskIngest
from services.tools.outside import mcp_tools, outside
from services.tools.queue import TOOLS_QUEUE
from services.tools.registry import Registry
from services.tools.repository import Repositories
from services.tools.sandbox import Sandbox
from services.tools.scratch import scratch
from services.tools.session import Sessions
from services.tools.tree import TreeBounds
from services.tools.workspaces import Workspaces

if TYPE_CHECKING:
    from shared.service import Process

VERSION = "1.0.0"


@asynccontextmanager
async def app(config: ToolsConfig, process: "Process") -> AsyncIterator[Registry]:
    """Entered: calls are taken. Left: calls in flight have been finished."""
    async with AsyncExitStack() as stack:
        root = stack.enter_context(scratch(config.scratch_directory))
        cgroup.sweep()
        bounds = TreeBounds(max_files=config.workspace_files, max_bytes=config.workspace_bytes)
        folders = max(config.workspace_folders, config.calls_in_flight)
        first_uid = config.sandbox_uid if os.geteuid() == 0 else None
        workspaces = Workspaces(process.blobs, root, bounds, folders, first_uid)
        sandbox = Sandbox(sandbox_bounds(config), private(config, process.blobs, root))
        sessions = Sessions(sandbox, process.blobs, config.python_sessions)
        stack.push_async_callback(sessions.close)
        workspaces.on_discard(sessions.discard)
        check = AskIngest(process.bus, process.blobs)
        beyond = await stack.enter_async_context(outside(config, check, root))
        registry = Registry([*tools(config, sandbox, sessions), *beyond])
        await stack.enter_async_context(mcp_tools(config, registry))
        checkout = Repositories(sandbox, workspaces, process.blobs).checkout
        execution = Execution(registry, workspaces, process.blobs, checkout, sessions.folder, check)
        handlers = RunTools(process.bus, process.blobs, execution, process.telemetry, process.clock)
        await process.bus.declare(TOOLS_QUEUE)
        endpoints = {names.SUBJECT_TOOLS_LIST: ListTools(registry).answer}
        await stack.enter_async_context(
            process.bus.offer(names.SERVICE_TOOLS, endpoints, version=VERSION, metadata={"area": "tools"})
        )
        await stack.enter_async_context(
            process.bus.consume(TOOLS_QUEUE, handlers.handle, in_flight=config.calls_in_flight, on_parked=handlers.park)
        )
        yield registry
