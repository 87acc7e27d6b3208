"""The bounds of one sandbox that the kernel does not keep by itself, kept by looking ten times a second.

Input: the first process of a sandbox, a view, bounds. Output: which bound was passed, in words. Must not know how a
sandbox is ended.
"""

import asyncio
from collections.abc import Callable

from services.tools.census import Usage, below, usage
from services.tools.disk import Used, used
from services.tools.sandbox import Bounds, View

WATCH_SECONDS = 0.1
REST_FACTOR = 4
"""Times as long as a look takes is waited until the next one."""
WRITTEN_FACTOR = 4
"""Times the size of a workspace that a call may write to disk: files without a name are no part of a folder."""
FILES_FACTOR = 2
"""Times the files of a workspace that there may be in between."""
MIB = 1024 * 1024


class Watch:
    """Of one call: processor time and writing count from its beginning."""

    def __init__(self, first: int, view: View, bounds: Bounds, *, counts_memory: bool) -> None:
        self._first = first
        self._view = view
        self._bounds = bounds
        self._counts_memory = counts_memory
        """False where the kernel does."""
        self._before = Used()
        self._cpu_before = 0.0
        self._written_before: dict[int, int] = {}
        self._written: dict[int, int] = {}

    async def until_exceeded(self, tell: Callable[[str], None]) -> None:
        await asyncio.to_thread(self._begin)
        rest = WATCH_SECONDS
        while True:
            await asyncio.sleep(rest)
            begun = asyncio.get_running_loop().time()
            reason = await asyncio.to_thread(self._exceeded)
            rest = max(WATCH_SECONDS, REST_FACTOR * (asyncio.get_running_loop().time() - begun))
            if reason:
                tell(reason)
                return

    def _begin(self) -> None:
        each = {pid: usage(pid) for pid in below(self._first)}
        self._before = used(self._view.workspace)
        self._cpu_before = Usage.sum(each.values()).cpu_seconds
        self._written_before = {pid: one.written_bytes for pid, one in each.items()}

    def _exceeded(self) -> str:
        bounds, each = self._bounds, {pid: usage(pid) for pid in below(self._first)}
        now = Usage.sum(each.values())
        if now.processes > bounds.processes:
            return f"more than {bounds.processes} processes and threads"
        if self._counts_memory and now.memory_bytes > bounds.memory_bytes:
            return memory_words(bounds)
        if now.cpu_seconds - self._cpu_before > bounds.cpu_seconds:
            return f"more than {bounds.cpu_seconds:g} seconds of processor time"
        return self._too_much_on_disk(each) if self._view.writable else ""

    def _too_much_on_disk(self, each: dict[int, Usage]) -> str:
        bounds, folder = self._bounds, used(self._view.workspace)
        if folder.size_bytes > max(bounds.workspace_bytes, self._before.size_bytes):
            return f"more than {bounds.workspace_bytes // MIB} MiB in the workspace"
        if folder.entries > max(FILES_FACTOR * bounds.workspace_files, self._before.entries):
            return f"more than {bounds.workspace_files} files in the workspace"
        for pid, one in each.items():
            written = one.written_bytes - self._written_before.get(pid, 0)
            self._written[pid] = max(self._written.get(pid, 0), written)
        if sum(self._written.values()) > WRITTEN_FACTOR * bounds.workspace_bytes:
            return f"more than {WRITTEN_FACTOR * bounds.workspace_bytes // MIB} MiB written to the disk"
        return ""


def memory_words(bounds: Bounds) -> str:
    return f"more than {bounds.memory_bytes // MIB} MiB of memory"
