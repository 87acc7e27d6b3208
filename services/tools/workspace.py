"""One workspace: a folder that is brought to a tree, worked in, and read back as a tree. Only differences move.

Input: trees and the blob store. Output: files on disk; the tree that is there, and what of it is new. Nobody else
changes the folder during either. Must not know runs, tools or calls.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schemas.blobs import BlobRef
from schemas.codec import decode, encode
from schemas.tools import WorkspaceFile, WorkspaceTree
from services.tools import beneath, folder, tree
from services.tools.folder import Listing, Signature, listing
from services.tools.tree import TreeBounds
from shared.blobs.store import BlobStore
from shared.errors import BadInput

NOTHING = BlobRef(key="sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", size_bytes=0)
"""The content of a link."""
TICK_SECONDS = 0.012
"""The kernel's clock for files may be this coarse: a change within one tick of a look would not be seen."""
AT_ONCE = 8
"""Blobs read or written at once."""
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
            have = self._have(await asyncio.to_thread(listing, self.path, self._bounds))
        except BadInput:  # a call that went wrong left too much
            await asyncio.to_thread(folder.empty, self.path)
            have = {}
        plan = tree.difference(have, wanted)
        await asyncio.to_thread(self._prepare, plan)
        await _each(plan.write, self._write)
        await asyncio.sleep(TICK_SECONDS if plan.write else 0)
        self.state = ref

    async def snapshot(self) -> Snapshot:
        """Stores what is new, and the tree. Raises BadInput(``workspace.too_large``)."""
        self.state = None
        found = await asyncio.to_thread(listing, self.path, self._bounds)
        before = {path: file for path, (_, file) in self._seen.items()}
        unknown = [path for path, now in found.files.items() if not self._known(path, now)]
        await _each(unknown, self._store)
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
        for path in plan.remove:
            folder.remove(self.path, path)
        for path in plan.directories:
            with beneath.located(self.path, path, make=True, follow=False) as (parent, name):
                os.mkdir(name, 0o755, dir_fd=parent)
                with beneath.directory(self.path, ".") as root:
                    beneath.hand_over(name, parent, root)

    async def _write(self, wanted: WorkspaceFile) -> None:
        if wanted.link:
            await asyncio.to_thread(self._link, wanted)
            return
        small = wanted.content.size_bytes <= WHOLE_BYTES
        data = await self._blobs.get(wanted.content) if small else b""
        now = await asyncio.to_thread(self._fill, wanted, data)
        if not small:
            async for piece in self._blobs.stream(wanted.content):
                now = await asyncio.to_thread(self._fill, wanted, piece, os.O_APPEND)
        self._seen[wanted.path] = (now, wanted)

    def _fill(self, wanted: WorkspaceFile, data: bytes, how: int = os.O_TRUNC | os.O_CREAT) -> Signature:
        with beneath.file(self.path, wanted.path, os.O_WRONLY | how) as descriptor:
            _write_all(descriptor, data)
            os.fchmod(descriptor, 0o755 if wanted.executable else 0o644)
            return folder.signature(os.fstat(descriptor))

    def _link(self, wanted: WorkspaceFile) -> None:
        with beneath.located(self.path, wanted.path, follow=False) as (parent, name):
            os.symlink(wanted.link, name, dir_fd=parent)
            with beneath.directory(self.path, ".") as root:
                beneath.hand_over(name, parent, root)

    async def _store(self, path: str) -> None:
        """The signature is taken first: what changes later is seen to have changed."""
        now, data = await asyncio.to_thread(self._read, path, 0)
        if now.size_bytes <= WHOLE_BYTES:
            content = await self._blobs.put(data)
        else:
            async with self._blobs.spool(self._bounds.max_bytes) as spool:
                offset = 0
                while data:
                    await spool.write(data)
                    offset += len(data)
                    _, data = await asyncio.to_thread(self._read, path, offset)
            content = spool.ref
        self._seen[path] = (now, WorkspaceFile(path=path, content=content, executable=now.executable))

    def _read(self, path: str, offset: int) -> tuple[Signature, bytes]:
        self._readable(path)
        with beneath.file(self.path, path, os.O_RDONLY) as descriptor:
            now = folder.signature(os.fstat(descriptor))
            count = WHOLE_BYTES if now.size_bytes <= WHOLE_BYTES else PIECE_BYTES
            return now, os.pread(descriptor, count, offset)

    def _readable(self, path: str) -> None:
        """Its owner may have closed it to himself, and so to us where we are the same user."""
        if os.geteuid() != 0 and not os.access(self.path / path, os.R_OK, follow_symlinks=False):
            (self.path / path).chmod(0o644)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """A few at once. Blobs that are needed at once are read at once; the first failure ends the rest."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
