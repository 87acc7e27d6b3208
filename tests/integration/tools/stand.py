"""The whole tools service on the fake bus, with a real store and real sandboxes, and a run that calls it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from schemas.blobs import BlobRef
from schemas.codec import decode
from schemas.tools import ToolFinished, WorkspaceTree
from services.tools.app import app
from services.tools.config import ToolsConfig
from shared.clock import SystemClock
from tests.unit.tools.desk import Desk, text

__all__ = ["Stand", "text"]


class Stand(Desk):
    """Remembers workspace and session from call to call, as a coordinator does."""

    def __init__(self, folder: Path, **faults: float) -> None:
        super().__init__(folder, **faults)
        self.workspace: BlobRef | None = None
        self.session: BlobRef | None = None
        self._calls = 0

    @asynccontextmanager
    async def service(self, **config: Any) -> AsyncIterator[None]:
        process = SimpleNamespace(
            bus=self.broker.bus("tools"), blobs=self.blobs, telemetry=self.telemetry, clock=SystemClock()
        )
        scratch = self.folder / "scratch"
        async with app(ToolsConfig(scratch_directory=scratch, **config), process):  # type: ignore[arg-type]
            yield
        assert list(scratch.iterdir()) == []

    async def call(self, tool: str, repository: BlobRef | None = None, **arguments: Any) -> ToolFinished:
        self._calls += 1
        outcome = await self.ask(
            tool,
            f"run-1-{self._calls}-0",
            arguments=arguments,
            workspace=self.workspace,
            session=self.session,
            repository=repository,
        )
        self.workspace = outcome.workspace or self.workspace
        self.session = outcome.session or self.session
        return outcome

    async def said(self, tool: str, **arguments: Any) -> str:
        return text(await self.call(tool, **arguments))

    async def files(self) -> dict[str, bytes]:
        if self.workspace is None:
            return {}
        tree = decode(await self.blobs.get(self.workspace), WorkspaceTree)
        return {file.path: await self.blobs.get(file.content) for file in tree.files if not file.link}
