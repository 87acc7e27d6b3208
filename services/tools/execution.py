"""One call from its job to its outcome: arguments checked, workspace at hand, tool run within its time, result bounded.

Input: ``ToolJob``. Output: ``ToolFinished``, also where the tool refused. Must not know the queue, and nothing of how
often a job was delivered except what it is told.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path, PurePosixPath

from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Part, TextPart
from schemas.tools import ToolFile, ToolFinished, ToolJob, WorkspaceFile
from services.tools.content import bounded
from services.tools.media_check import MediaCheck, showable
from services.tools.registry import Registry
from services.tools.tool import Call, Progress, Result, Tool
from services.tools.workspace import Snapshot, Workspace
from services.tools.workspaces import Workspaces
from shared.blobs.store import BlobStore
from shared.errors import DeadlineExceeded, MoontideError

MAX_SHOWN_FILES = 32
MAX_SHOWN_IMAGES = 4
MAX_IMAGE_BYTES = 8 * 1024 * 1024
IMAGES = frozenset(("image/png", "image/jpeg", "image/webp", "image/gif"))


@dataclass(frozen=True)
class Execution:
    registry: Registry
    workspaces: Workspaces
    blobs: BlobStore
    checkout: Callable[[BlobRef], Awaitable[BlobRef]]
    """A git bundle to the stored tree that a run on it begins with."""
    warm: Callable[[str], Path | None]
    """The folder of a run that is worth coming back to."""
    check: MediaCheck | None = None
    """Whether a picture can be shown; None: nobody looks."""

    async def perform(self, job: ToolJob, progress: Progress, *, repeated: bool) -> ToolFinished:
        """Raises what may pass (Unavailable, Busy); everything else is in the outcome."""
        begun = time.monotonic()
        try:
            tool = self.registry.find(job.tool)
            arguments = self.registry.arguments(tool, await self.blobs.resolve(job.arguments))
            async with self._workspace(job, tool, progress) as workspace:
                call = Call(
                    call_id=job.call_id,
                    run_id=job.run_id,
                    context=job.context,
                    arguments=arguments,
                    blobs=self.blobs,
                    progress=progress,
                    workspace=workspace and workspace.path,
                    session=job.session,
                    repository=job.repository,
                    repeated=repeated,
                )
                result = await self._within_time(tool, call)
                return await self._finished(call, tool, result, workspace, time.monotonic() - begun)
        except MoontideError as error:
            if error.retryable:
                raise
            return refused(job.call_id, error, seconds=time.monotonic() - begun)

    @asynccontextmanager
    async def _workspace(self, job: ToolJob, tool: Tool, progress: Progress) -> AsyncIterator[Workspace | None]:
        if tool.declaration.workspace == "none":
            yield None
            return
        progress("preparing the workspace")
        ref = job.workspace
        if ref is None and job.repository is not None:
            ref = await self.checkout(job.repository)
        async with self.workspaces.borrowed(job.run_id, ref, self.warm(job.run_id)) as workspace:
            yield workspace

    async def _within_time(self, tool: Tool, call: Call) -> Result:
        seconds = tool.declaration.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await tool.run(call)
        except TimeoutError as error:
            text = f"{tool.declaration.name} was ended: it took longer than its limit of {seconds:g} seconds"
            raise DeadlineExceeded("tool.timeout", text) from error

    async def _finished(
        self, call: Call, tool: Tool, result: Result, workspace: Workspace | None, seconds: float
    ) -> ToolFinished:
        parts, files = list(result.content), list(result.files)
        state: BlobRef | None = None
        if workspace is not None and tool.declaration.workspace == "write":
            call.progress("keeping the workspace")
            snapshot = await workspace.snapshot()
            state = snapshot.ref
            parts += left_out(snapshot)
            if result.shows_changes:
                shown = changes(snapshot.changed)
                parts += shown[0]
                files += shown[1]
        content, kept = await bounded(parts, files, self.blobs)
        if self.check is not None:
            content = await showable(self.check, call.context, content)
        outside = tool.declaration.effect == "outside"
        return ToolFinished(
            call_id=call.call_id,
            content=content,
            files=kept,
            workspace=state,
            session=result.session,
            possibly_repeated=outside and call.repeated,
            seconds=seconds,
        )


def refused(call_id: str, error: MoontideError, *, seconds: float = 0.0, repeated: bool = False) -> ToolFinished:
    """The outcome of a call that was not done. The model reads why."""
    return ToolFinished(
        call_id=call_id,
        content=(TextPart(text=f"error: {error.message}"),),
        failure=error.to_failure(),
        possibly_repeated=repeated,
        seconds=seconds,
    )


def left_out(snapshot: Snapshot) -> list[Part]:
    if not snapshot.left_out:
        return []
    names = ", ".join(repr(name) for name in snapshot.left_out[:10])
    return [TextPart(text=f"[not kept, since only files, links and directories with readable names are: {names}]")]


def changes(changed: tuple[WorkspaceFile, ...]) -> tuple[list[Part], list[ToolFile]]:
    """Images for the model, files for people. What begins with a dot is the workings of some program."""
    parts: list[Part] = []
    files: list[ToolFile] = []
    for file in changed:
        if any(part.startswith(".") for part in PurePosixPath(file.path).parts) or "__pycache__" in file.path:
            continue
        media_type = guess_type(file.path)[0] or "application/octet-stream"
        if len(files) < MAX_SHOWN_FILES:
            files.append(ToolFile(name=file.path, media_type=media_type, content=file.content))
        if media_type in IMAGES and 0 < file.content.size_bytes <= MAX_IMAGE_BYTES and len(parts) < MAX_SHOWN_IMAGES:
            parts.append(MediaPart(kind="image", source=file.content, name=file.path))
    return parts, files
