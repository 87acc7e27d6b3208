"""One workspace: a folder that is brought to a tree, worked in, and read back as a tree. Only differences move.

Input: trees and the blob store. Output: files on disk; the tree that is there, and what of it is new. Nobody else
changes the folder during either. Must not know runs, tools or calls.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schemas.blobs import BlobRef
from schemas.codec import decode, encode
from schemas.tools import WorkspaceFile, WorkspaceTree
from services.tools import beneath, folder, tree
from services.tools.batch import batches, read_all, write_all
from services.tools.folder import Listing, Signature, listing
from services.tools.thread import in_thread
from services.tools.tree import TreeBounds
from shared.blobs.store import BlobStore
from shared.errors import BadInput

NOTHING = BlobRef(key="sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", size_bytes=0)
"""The content of a link."""
TICK_SECONDS = 0.012
"""The kernel's clock for files may be this coarse: a change within one tick of a look would not be seen."""
AT_ONCE = 2
"""Batches of files in work."""
WHOLE_BYTES = 4 * 1024 * 1024
"""Files up to this size pass through memory, larger ones in pieces."""
PIECE_BYTES = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    ref: BlobRef
    tree: WorkspaceTree
    changed: tuple[WorkspaceFile, ...]
    """Files that are new or different since the last look."""
    left_out: tuple[str, ...]
    """What no tree can hold."""


class Workspace:
    """``path`` belongs to the user that sandboxed programs have."""

    def __init__(self, path: Path, blobs: BlobStore, bounds: TreeBounds) -> None:
        self.path = path
        self.state: BlobRef | None = None
        """The tree that the folder held when it was last looked at."""
        self._blobs = blobs
        self._bounds = bounds
        self._seen: dict[str, tuple[Signature, WorkspaceFile]] = {}

    async def materialise(self, ref: BlobRef | None) -> None:
        """Brings the folder to a stored tree; None: empty. Raises BadInput for a tree that is damaged or too large."""
        self.state = None
        wanted = WorkspaceTree() if ref is None else decode(await self._blobs.get(ref), WorkspaceTree)
        tree.check(wanted, self._bounds)
        try:
            have = self._have(await in_thread(listing, self.path, self._bounds))
        except BadInput:  # a call that went wrong left too much
            await in_thread(folder.empty, self.path)
            have = {}
        plan = tree.difference(have, wanted)
        await in_thread(self._prepare, plan)
        small = [file for file in plan.write if not file.link and file.content.size_bytes <= WHOLE_BYTES]
        await _each(batches(small, lambda file: file.content.size_bytes), self._write)
        for file in plan.write:
            if not file.link and file.content.size_bytes > WHOLE_BYTES:
                await self._write_large(file)
        await asyncio.sleep(TICK_SECONDS if plan.write else 0)
        self.state = ref

    async def snapshot(self) -> Snapshot:
        """Stores what is new, and the tree. Raises BadInput(``workspace.too_large``)."""
        self.state = None
        found = await in_thread(listing, self.path, self._bounds)
        before = {path: file for path, (_, file) in self._seen.items()}
        unknown = [path for path, now in found.files.items() if not self._known(path, now)]
        small = [path for path in unknown if found.files[path].size_bytes <= WHOLE_BYTES]
        await _each(batches(small, lambda path: found.files[path].size_bytes), self._store)
        for path in unknown:
            if found.files[path].size_bytes > WHOLE_BYTES:
                await self._store_large(path)
        files = [self._seen[path][1] for path in found.files]
        links = [WorkspaceFile(path=path, content=NOTHING, link=target) for path, target in found.links.items()]
        self._seen = {path: self._seen[path] for path in found.files}
        whole = tree.built([*files, *links], found.directories)
        self.state = await self._blobs.put(encode(whole))
        new = tuple(file for file in whole.files if not file.link and before.get(file.path) != file)
        await asyncio.sleep(TICK_SECONDS if unknown else 0)
        return Snapshot(self.state, whole, new, tuple(sorted(found.others)))

    def _known(self, path: str, now: Signature) -> bool:
        return path in self._seen and self._seen[path][0] == now

    def _have(self, found: Listing) -> dict[str, WorkspaceFile | None]:
        have: dict[str, WorkspaceFile | None] = {f"{path}/": None for path in found.directories}
        have |= dict.fromkeys(found.others)
        have |= {path: self._seen[path][1] if self._known(path, now) else None for path, now in found.files.items()}
        have |= {path: WorkspaceFile(path=path, content=NOTHING, link=to) for path, to in found.links.items()}
        return have

    def _prepare(self, plan: tree.Plan) -> None:
        """Everything but the contents of files."""
        with beneath.directory(self.path, ".") as root:
            for path in plan.remove:
                folder.remove(self.path, path)
            for path in plan.directories:
                with beneath.located(self.path, path, follow=False) as (parent, name):
                    os.mkdir(name, 0o755, dir_fd=parent)
                    beneath.hand_over(name, parent, root)
            for file in plan.write:
                if file.link:
                    with beneath.located(self.path, file.path, follow=False) as (parent, name):
                        os.symlink(file.link, name, dir_fd=parent)
                        beneath.hand_over(name, parent, root)

    async def _write(self, files: list[WorkspaceFile]) -> None:
        contents = await asyncio.gather(*(self._blobs.get(file.content) for file in files))
        made = await in_thread(write_all, self.path, files, contents)
        self._seen |= {file.path: (now, file) for file, now in zip(files, made, strict=True)}

    async def _write_large(self, file: WorkspaceFile) -> None:
        await in_thread(write_all, self.path, [file], [b""])
        async for piece in self._blobs.stream(file.content):
            now = await in_thread(self._append, file.path, piece)
            self._seen[file.path] = (now, file)

    def _append(self, path: str, piece: bytes) -> Signature:
        with beneath.file(self.path, path, os.O_WRONLY | os.O_APPEND) as descriptor:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
            return folder.signature(os.fstat(descriptor))

    async def _store(self, paths: list[str]) -> None:
        read = await in_thread(read_all, self.path, paths)
        contents = await asyncio.gather(*(self._blobs.put(data) for _, data in read))
        for path, (now, _), content in zip(paths, read, contents, strict=True):
            self._seen[path] = (now, WorkspaceFile(path=path, content=content, executable=now.executable))

    async def _store_large(self, path: str) -> None:
        with beneath.file(self.path, path, os.O_RDONLY) as descriptor:
            now = folder.signature(os.fstat(descriptor))
            async with self._blobs.spool(self._bounds.max_bytes) as spool:
                while data := await in_thread(os.read, descriptor, PIECE_BYTES):
                    await spool.write(data)
        self._seen[path] = (now, WorkspaceFile(path=path, content=spool.ref, executable=now.executable))


async def _each(items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Two at once: one is read while the other is written. The first failure ends both."""

    async def worker() -> None:
        for item in items:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
