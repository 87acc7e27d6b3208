"""Many small files at once: a directory is walked to once, and a thread is asked once.

Input: a folder that nobody else changes meanwhile, paths. Output: contents with signatures, or files on disk. Must not
know blobs.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from schemas.tools import WorkspaceFile
from services.tools import beneath
from services.tools.folder import Signature, signature

MAX_FILES = 128
MAX_BYTES = 16 * 1024 * 1024
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

T = TypeVar("T")


def batches(items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """In order, each bounded by number and by bytes; one item may be larger than that by itself."""
    batch: list[T] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MAX_FILES or size + size_of(item) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += size_of(item)
    if batch:
        yield batch


def read_all(root: Path, paths: Sequence[str]) -> list[tuple[Signature, bytes]]:
    """Signatures are taken first: what changes later is seen to have changed."""
    found = []
    for parent, names in groupby(paths, key=parent_of):
        with beneath.directory(root, parent) as folder:
            for name in names:
                descriptor = _readable(name.rpartition("/")[2], folder)
                try:
                    now = signature(os.fstat(descriptor))
                    found.append((now, os.pread(descriptor, now.size_bytes, 0)))
                finally:
                    os.close(descriptor)
    return found


def write_all(root: Path, files: Sequence[WorkspaceFile], contents: Sequence[bytes]) -> list[Signature]:
    """What is in the way has been removed; directories are there."""
    made = []
    left = iter(contents)
    for parent, group in groupby(files, key=lambda file: parent_of(file.path)):
        with beneath.directory(root, parent) as folder:
            made += [_written(root, folder, file, next(left)) for file in group]
    return made


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _written(root: Path, folder: int, file: WorkspaceFile, data: bytes) -> Signature:
    name = file.path.rpartition("/")[2]
    descriptor = os.open(name, WRITE, 0o600, dir_fd=folder)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        beneath.own_as(descriptor, root)
        os.fchmod(descriptor, 0o755 if file.executable else 0o644)
        return signature(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _readable(name: str, folder: int) -> int:
    """Its owner may have closed it to himself, and so to us where we are the same user."""
    try:
        return os.open(name, READ, dir_fd=folder)
    except PermissionError:
        os.chmod(name, 0o644, dir_fd=folder)
        return os.open(name, READ, dir_fd=folder)
