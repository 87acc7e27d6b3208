"""``list_files``, ``read_file``, ``write_file`` and ``edit_file``: the workspace without a sandbox, since nothing of
the model's is run. No path leads out (``beneath``). Must not know runs or trees.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from services.tools import beneath
from services.tools.thread import in_thread
from services.tools.tool import Call, Result, declared, said
from shared.errors import BadInput

MAX_ENTRIES = 1000
MAX_READ_BYTES = 1024 * 1024
MAX_EDIT_BYTES = 8 * 1024 * 1024
MAX_WRITE_CHARACTERS = 4 * 1024 * 1024
SNIFFED_BYTES = 8192
UNLISTED = frozenset((".git", "__pycache__", "node_modules", ".venv"))
"""Directories that are named, but not opened, unless they are asked for."""

PATH = {"type": "string", "description": "Relative to the workspace, /workspace."}


class ListFiles:
    declaration = declared(
        "list_files",
        "List files and directories of the workspace with their sizes.",
        {
            "path": {**PATH, "default": "."},
            "depth": {"type": "integer", "minimum": 1, "maximum": 32, "default": 2, "description": "Levels to show."},
        },
        workspace="read",
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        path, depth = call.arguments.get("path", "."), call.arguments.get("depth", 2)
        return said(await in_thread(list_files, call.workspace, path, depth))


class ReadFile:
    declaration = declared(
        "read_file",
        "Read a text file of the workspace, whole or some of its lines.",
        {
            "path": PATH,
            "first_line": {"type": "integer", "minimum": 1, "description": "Counts from 1."},
            "last_line": {"type": "integer", "minimum": 1, "description": "Included."},
        },
        required=("path",),
        workspace="read",
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        first, last = call.arguments.get("first_line"), call.arguments.get("last_line")
        return said(await in_thread(read_file, call.workspace, call.arguments["path"], first, last))


class WriteFile:
    declaration = declared(
        "write_file",
        "Write a text file of the workspace: made, with its directories, or replaced as a whole.",
        {"path": PATH, "content": {"type": "string", "maxLength": MAX_WRITE_CHARACTERS}},
        required=("path", "content"),
        effect="workspace",
        workspace="write",
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        path, content = call.arguments["path"], call.arguments["content"]
        return said(await in_thread(write_file, call.workspace, path, content))


class EditFile:
    declaration = declared(
        "edit_file",
        "Replace a piece of a text file of the workspace. `old` must occur exactly once, unless `all` is true.",
        {
            "path": PATH,
            "old": {"type": "string", "minLength": 1, "description": "The text as it stands in the file."},
            "new": {"type": "string", "maxLength": MAX_WRITE_CHARACTERS},
            "all": {"type": "boolean", "default": False, "description": "Replace every occurrence."},
        },
        required=("path", "old", "new"),
        effect="workspace",
        workspace="write",
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        given = call.arguments
        every = given.get("all", False)
        return said(await in_thread(edit_file, call.workspace, given["path"], given["old"], given["new"], every))


def list_files(root: Path, path: str, depth: int) -> str:
    with beneath.directory(root, path) as descriptor:
        lines = []
        for line in _entries(descriptor, "", depth):
            if len(lines) == MAX_ENTRIES:
                lines.append(f"[more than {MAX_ENTRIES} entries: list a directory below, or less deep]")
                break
            lines.append(line)
    return "\n".join(lines) or "(empty)"


def _entries(descriptor: int, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(descriptor) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if entry.is_symlink():
            yield f"{name} -> {os.readlink(entry.name, dir_fd=descriptor)}"
        elif entry.is_dir():
            yield f"{name}/"
            if depth > 1 and entry.name not in UNLISTED:
                below = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                try:
                    yield from _entries(below, f"{name}/", depth - 1)
                finally:
                    os.close(below)
        else:
            status = entry.stat(follow_symlinks=False)
            size = f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "not a regular file"
            yield f"{name}  {size}"


def read_file(root: Path, path: str, first: int | None, last: int | None) -> str:
    if last is not None and last < (first or 1):
        raise BadInput("tool.arguments", "last_line is before first_line", param="last_line")
    with beneath.file(root, path, os.O_RDONLY) as descriptor:
        _check_text(descriptor, path)
        if first is None and last is None:
            return _whole(descriptor)
        return _lines(descriptor, path, first or 1, last)


def _check_text(descriptor: int, path: str) -> None:
    if b"\0" in os.pread(descriptor, SNIFFED_BYTES, 0):
        size = os.fstat(descriptor).st_size
        text = f"{path!r} is a binary file of {size} bytes; pictures and video are seen with look, others with python"
        raise BadInput("workspace.binary", text, param="path")


def _whole(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, MAX_READ_BYTES, 0).decode("utf-8", "replace")
    if size > MAX_READ_BYTES:
        text += f"\n[only the first {MAX_READ_BYTES} of {size} bytes are shown: ask for some lines]"
    return text or "(an empty file)"


def _lines(descriptor: int, path: str, first: int, last: int | None) -> str:
    """Lines ``first`` to ``last``, bounded, without holding those before."""
    kept, size, number = [], 0, 0
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        while (line := stream.readline(MAX_READ_BYTES)) and (last is None or number < last):
            number += 1
            if number < first:
                continue
            size += len(line)
            if size > MAX_READ_BYTES:
                kept.append(f"[more than {MAX_READ_BYTES} bytes: ask for fewer lines]")
                break
            kept.append(line.decode("utf-8", "replace"))
    if not kept:
        raise BadInput("tool.arguments", f"{path!r} has only {number} lines", param="first_line")
    return "".join(kept)


def write_file(root: Path, path: str, content: str) -> str:
    data = content.encode("utf-8", "replace")
    with beneath.file(root, path, os.O_WRONLY | os.O_CREAT) as descriptor:
        replaced = os.fstat(descriptor).st_size > 0
        _put(descriptor, data)
    return f"{'replaced' if replaced else 'wrote'} {path}: {len(data)} bytes"


def edit_file(root: Path, path: str, old: str, new: str, every: bool) -> str:
    with beneath.file(root, path, os.O_RDWR) as descriptor:
        if os.fstat(descriptor).st_size > MAX_EDIT_BYTES:
            raise BadInput("workspace.too_large", f"{path!r} is too large to be edited; use python", param="path")
        _check_text(descriptor, path)
        data = os.pread(descriptor, MAX_EDIT_BYTES, 0)
        wanted = old.encode("utf-8", "replace")
        count = data.count(wanted)
        _check_count(count, path, every)
        _put(descriptor, data.replace(wanted, new.encode("utf-8", "replace")))
    return f"edited {path}: {count} {'place' if count == 1 else 'places'}"


def _check_count(count: int, path: str, every: bool) -> None:
    if count == 0:
        text = f"`old` does not occur in {path!r}: it must be the file's text exactly, white space included"
        raise BadInput("workspace.no_match", text, param="old")
    if count > 1 and not every:
        text = f"`old` occurs {count} times in {path!r}: give more of its surroundings, or set `all`"
        raise BadInput("workspace.no_match", text, param="old")


def _put(descriptor: int, data: bytes) -> None:
    """Writes before it cuts, so that a full disk costs as little as possible."""
    view, offset = memoryview(data), 0
    while offset < len(data):
        offset += os.pwrite(descriptor, view[offset:], offset)
    os.ftruncate(descriptor, len(data))
