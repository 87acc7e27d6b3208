"""The workspaces that this process has at hand: a few folders, each of one run, brought up to date when borrowed.

Input: a run and a tree. Output: a folder that holds the tree and that nobody else uses until it is given back. All of
it is a cache: any folder may be dropped between two calls. Must not know tools.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.blobs import BlobRef
from services.tools import folder
from services.tools.thread import in_thread
from services.tools.tree import TreeBounds
from services.tools.workspace import Workspace
from shared.blobs.store import BlobStore

Discard = Callable[[Path], Awaitable[None]]
"""Ends whatever still uses a folder, before another run gets its place."""


class Workspaces:
    """At most ``count`` folders, which must be at least the number of calls in flight. ``first_uid``: of as many users
    for sandboxed programs, one per folder; None where this process may not change users."""

    def __init__(self, blobs: BlobStore, root: Path, bounds: TreeBounds, count: int, first_uid: int | None) -> None:
        self._blobs = blobs
        self._root = root
        self._bounds = bounds
        self._first_uid = first_uid
        self._free = list(range(count))
        self._idle: list[tuple[str, int, Workspace]] = []
        """(run, number, workspace), the longest unused first."""
        self._discards: list[Discard] = []

    def on_discard(self, discard: Discard) -> None:
        self._discards.append(discard)

    @asynccontextmanager
    async def borrowed(self, run_id: str, ref: BlobRef | None, prefer: Path | None = None) -> AsyncIterator[Workspace]:
        """A folder that holds the tree ``ref``. ``prefer``: where a part of the run's state is warm."""
        number, workspace = await self._take(run_id, ref, prefer)
        try:
            await workspace.materialise(ref)
            yield workspace
        finally:
            self._idle.append((run_id, number, workspace))

    async def _take(self, run_id: str, ref: BlobRef | None, prefer: Path | None) -> tuple[int, Workspace]:
        own = [entry for entry in self._idle if entry[0] == run_id]
        if own:
            best = max(own, key=lambda entry: (entry[2].path == prefer, entry[2].state == ref, self._idle.index(entry)))
            self._idle.remove(best)
            return best[1], best[2]
        number = self._free.pop(0) if self._free else await self._discard()
        path = self._root / f"workspace-{number}"
        await in_thread(self._make, path, number)
        return number, Workspace(path, self._blobs, self._bounds)

    async def _discard(self) -> int:
        """The number of the longest unused folder, whose place is free then."""
        _, number, workspace = self._idle.pop(0)
        for discard in self._discards:
            await discard(workspace.path)
        await in_thread(_removed, workspace.path)
        return number

    def _make(self, path: Path, number: int) -> None:
        path.mkdir(mode=0o700)
        if self._first_uid is not None:
            owner = self._first_uid + number
            os.chown(path, owner, owner)


def _removed(path: Path) -> None:
    folder.empty(path)
    path.rmdir()
