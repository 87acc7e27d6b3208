"""A folder on disk as the workspace sees it: what is in it, and whether a file is still the one that was seen.

Input: a folder that nobody changes meanwhile. Output: entries with signatures. Must not know blobs or trees' meaning.
"""

import os
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.tools import beneath
from services.tools.tree import MAX_DEPTH, MAX_PATH_BYTES, TreeBounds, check_size
from shared.errors import BadInput, NotFound


@dataclass(frozen=True)
class Signature:
    """Equal signatures, equal content: the kernel sets ``changed_ns``, nobody can set it back."""

    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    executable: bool


@dataclass
class Listing:
    files: dict[str, Signature] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """What no tree can hold: pipes, sockets, devices, names that are no text."""
    size_bytes: int = 0

    def __len__(self) -> int:
        return len(self.files) + len(self.links) + len(self.directories) + len(self.others)


def listing(folder: Path, bounds: TreeBounds) -> Listing:
    """Everything below ``folder``; links are listed, not followed. Raises BadInput(``workspace.too_large``)."""
    found = Listing()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _list(descriptor, "", found, bounds)
    finally:
        os.close(descriptor)
    return found


def _list(descriptor: int, prefix: str, found: Listing, bounds: TreeBounds) -> None:
    if prefix.count("/") > MAX_DEPTH or len(os.fsencode(prefix)) > MAX_PATH_BYTES:
        raise BadInput("workspace.too_large", f"the folder {prefix[:100]!r}… is too deep for a workspace; remove it")
    with os.scandir(descriptor) as entries:
        for entry in entries:
            _note(entry, descriptor, f"{prefix}{entry.name}", found, bounds)
            check_size(len(found), found.size_bytes, bounds)


def _note(entry: "os.DirEntry[str]", descriptor: int, path: str, found: Listing, bounds: TreeBounds) -> None:
    status = entry.stat(follow_symlinks=False)
    if not _is_text(entry.name):
        found.others.append(path)
    elif stat.S_ISDIR(status.st_mode):
        found.directories.append(path)
        with _opened(entry.name, descriptor) as below:
            _list(below, f"{path}/", found, bounds)
    elif stat.S_ISREG(status.st_mode):
        found.files[path] = signature(status)
        found.size_bytes += status.st_size
    elif stat.S_ISLNK(status.st_mode) and _is_text(target := os.readlink(entry.name, dir_fd=descriptor)):
        found.links[path] = target
    else:
        found.others.append(path)


def signature(status: os.stat_result) -> Signature:
    return Signature(
        inode=status.st_ino,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
        executable=bool(status.st_mode & stat.S_IXUSR),
    )


class _opened:
    """A directory that its owner may have closed to himself, opened."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._parent = descriptor
        self._descriptor = -1

    def __enter__(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._name, flags, dir_fd=self._parent)
            if os.fstat(self._descriptor).st_mode & 0o700 != 0o700:
                os.fchmod(self._descriptor, 0o755)
        except PermissionError:
            os.chmod(self._name, 0o755, dir_fd=self._parent)
            self._descriptor = os.open(self._name, flags, dir_fd=self._parent)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def empty(folder: Path) -> None:
    """Removes everything below ``folder``, whatever modes its owner gave to it."""
    for entry in list(folder.iterdir()):
        remove(folder, entry.name)


def remove(folder: Path, path: str) -> None:
    """``path`` and what is below it. Links are removed, not followed. However deep a program made its directories: each
    is moved up before it is emptied."""
    with suppress(NotFound), beneath.located(folder, path, follow=False) as (parent, name):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        waiting = [name]
        while waiting:
            waiting += _removed(waiting.pop(), parent)


def _removed(name: str, parent: int) -> list[str]:
    """Removes a directory; returns the new names, in ``parent``, of the directories that were in it."""
    moved = []
    with _opened(name, parent) as descriptor:
        with os.scandir(descriptor) as scan:
            entries = list(scan)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=descriptor)
                continue
            with _opened(entry.name, descriptor):
                moved.append(f".removed-{uuid.uuid4().hex}")
            os.rename(entry.name, moved[-1], src_dir_fd=descriptor, dst_dir_fd=parent)
    os.rmdir(name, dir_fd=parent)
    return moved
