"""A tools service on the fake bus, and a caller of it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import TextPart
from schemas.codec import decode, encode, encode_json
from schemas.request import RequestContext
from schemas.tools import ToolCancelled, ToolFinished, ToolJob, ToolOutcome, ToolProgress
from services.tools.execution import Execution
from services.tools.handlers import RunTools
from services.tools.queue import TOOLS_QUEUE
from services.tools.registry import Registry
from services.tools.tool import Call, Result, Tool, declared
from services.tools.tree import TreeBounds
from services.tools.workspaces import Workspaces
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker, FakeBus
from shared.clock import SystemClock
from shared.telemetry.recording import RecordingTelemetry


class Scripted:
    """A tool whose run is given by the test; ``calls`` counts."""

    def __init__(self, name: str, run: Callable[[Call], Awaitable[Result]], **declaration: Any) -> None:
        self.declaration = declared(name, "For a test.", {"n": {"type": "integer"}}, **declaration)
        self.calls: list[Call] = []
        self._run = run

    async def run(self, call: Call) -> Result:
        self.calls.append(call)
        return await self._run(call)


class Desk:
    """Workers and a caller that share a broker and a blob store."""

    def __init__(self, folder: Path, *tools: Tool, **faults: float) -> None:
        self.folder = folder
        self.blobs = BlobStore.open((folder / "blobs").as_uri())
        self.broker = FakeBroker(1, **faults)
        self.bus = self.broker.bus("caller")
        self.telemetry = RecordingTelemetry("tools")
        self.registry = Registry(tools)
        self._workers = 0

    @asynccontextmanager
    async def worker(self, in_flight: int = 2) -> AsyncIterator[FakeBus]:
        self._workers += 1
        bus = self.broker.bus("tools")
        root = self.folder / f"scratch-{self._workers}"
        root.mkdir()
        bounds = TreeBounds(max_files=1000, max_bytes=10_000_000)
        workspaces = Workspaces(self.blobs, root, bounds, in_flight, None)
        execution = Execution(self.registry, workspaces, self.blobs, no_repository, lambda run_id: None)
        handlers = RunTools(bus, self.blobs, execution, self.telemetry, SystemClock(), absent_seconds=0.1)
        async with bus.consume(TOOLS_QUEUE, handlers.handle, in_flight=in_flight, on_parked=handlers.park):
            yield bus

    async def send(self, tool: str, call_id: str = "run-1-1-0", *, seconds: float = 60.0, **more: Any) -> None:
        context = RequestContext(request_id="r", deadline_unix_seconds=time.time() + seconds)
        arguments = encode_json(more.pop("arguments", {}))
        job = ToolJob(call_id=call_id, context=context, run_id="run-1", tool=tool, arguments=arguments, **more)
        await self.bus.declare(TOOLS_QUEUE)
        await self.bus.enqueue(names.tool_requested(call_id), encode(job), message_id=f"{call_id}-{uuid.uuid4().hex}")

    async def ask(self, tool: str, call_id: str = "run-1-1-0", **more: Any) -> ToolFinished:
        heard = await self.heard(tool, call_id, **more)
        outcome = heard[-1]
        assert isinstance(outcome, ToolFinished)
        return outcome

    async def heard(self, tool: str, call_id: str = "run-1-1-0", **more: Any) -> list[ToolOutcome]:
        """Everything that is said of a call, the outcome last."""
        outcomes = await self.bus.subscribe(names.tool_outcome(call_id))
        await self.send(tool, call_id, **more)
        heard: list[ToolOutcome] = []
        async with asyncio.timeout(20):
            async for data in outcomes:
                heard.append(decode(data, ToolOutcome))  # type: ignore[arg-type]
                if isinstance(heard[-1], ToolFinished):
                    break
        await outcomes.close()
        return heard

    async def cancel(self, call_id: str = "run-1-1-0", reason: str = "") -> None:
        await self.bus.publish(names.tool_control(call_id), encode(ToolCancelled(call_id=call_id, reason=reason)))


async def no_repository(repository: BlobRef) -> BlobRef:
    raise AssertionError("no repository here")


def text(outcome: ToolFinished) -> str:
    return "\n".join(part.text for part in outcome.content if isinstance(part, TextPart))


def progress(heard: list[ToolOutcome]) -> list[str]:
    return [item.text for item in heard if isinstance(item, ToolProgress)]
