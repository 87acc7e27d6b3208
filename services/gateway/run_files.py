"""The files of a run: what it leaves, its workspace as the last step left it, and what single events show.

Input: a run's summary or entries, and a name: ``outputs/NAME``, ``workspace/PATH`` or ``events/EVENT/NUMBER/NAME``.
Output: file lists, and references to the bytes. It must not know HTTP.
"""

import mimetypes
from collections.abc import Sequence

import msgspec

from schemas import codec
from schemas.request import Principal
from schemas.runs import NumberedEntry, RunSummary
from schemas.tools import ToolFile, WorkspaceFile, WorkspaceTree
from services.gateway.run_event_body import FileView, cut_at
from services.gateway.run_event_view import BYTES, EventViews
from services.gateway.run_view import OUTPUTS, WORKSPACE, file_view, output_views
from services.gateway.runs import Runs
from shared.blobs.store import BlobStore
from shared.errors import Internal, NotFound

EVENTS = "events"


class RunFiles:
    """Methods raise NotFound, also for runs of other tenants."""

    def __init__(self, runs: Runs, blobs: BlobStore, views: EventViews) -> None:
        self._runs = runs
        self._blobs = blobs
        self._views = views

    async def list(self, principal: Principal, run_id: str) -> tuple[FileView, ...]:
        summary = await self._runs.get(principal, run_id)
        tree = await self._tree(summary)
        inside = [file_view(run_id, f"{WORKSPACE}/{f.path}", _type(f.path), f.content.size_bytes) for f in _files(tree)]
        return (*output_views(summary), *inside)

    async def find(self, principal: Principal, run_id: str, name: str) -> ToolFile:
        place, _, rest = name.partition("/")
        if place == EVENTS:
            return await self._of_event(principal, run_id, rest)
        summary = await self._runs.get(principal, run_id)
        if place == OUTPUTS:
            return _named(summary.files, rest)
        if place == WORKSPACE:
            return _named([_tool_file(file) for file in _files(await self._tree(summary))], rest)
        raise not_found()

    async def _of_event(self, principal: Principal, run_id: str, path: str) -> ToolFile:
        identifier, _, rest = path.partition("/")
        number = rest.partition("/")[0]
        numbered, index = await self.event(principal, run_id, identifier)
        files = await self._views.files(numbered, index)
        if not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) < len(files)):
            raise not_found()
        return files[int(number)]

    async def event(self, principal: Principal, run_id: str, identifier: str) -> tuple[NumberedEntry, int]:
        """The entry of an event, and the event's place in it."""
        missing = NotFound("run.event_not_found", "the run has no such event", param="event")
        try:
            cut = cut_at(identifier)
        except ValueError as error:
            raise missing from error
        sequence = cut.sequence + 1 if cut.events else cut.sequence
        numbered = await self._runs.first(principal, run_id, max(0, sequence - 1))
        if numbered is None or numbered.sequence != sequence:
            raise missing
        index = (cut.events or len(numbered.entry.events)) - 1
        if index >= len(numbered.entry.events):
            raise missing
        return numbered, index

    async def _tree(self, summary: RunSummary) -> WorkspaceTree:
        if summary.workspace is None:
            return WorkspaceTree()
        try:
            return codec.decode(await self._blobs.get(summary.workspace), WorkspaceTree)
        except msgspec.MsgspecError as error:
            raise Internal("run.workspace", "the workspace of the run cannot be read") from error


def _files(tree: WorkspaceTree) -> list[WorkspaceFile]:
    """Links are not followed, and not shown."""
    return [file for file in tree.files if not file.link]


def _tool_file(file: WorkspaceFile) -> ToolFile:
    return ToolFile(name=file.path, media_type=_type(file.path), content=file.content)


def _named(files: Sequence[ToolFile], name: str) -> ToolFile:
    for file in files:
        if file.name == name:
            return file
    raise not_found()


def _type(path: str) -> str:
    return mimetypes.guess_type(path)[0] or BYTES


def not_found() -> NotFound:
    return NotFound("run.file_not_found", "the run has no such file", param="name")
